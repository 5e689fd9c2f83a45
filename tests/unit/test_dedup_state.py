"""However many replicas hash, in whatever order, how often ever, and whoever is killed when: what is said in the end follows from the images."""

from __future__ import annotations

from cosmop_common.collection import DedupSettings
from cosmop_common.pb.cosmop.v1 import facts_pb2
from cosmop_dedup.state import CollectionState, Known
from hypothesis import given, settings
from hypothesis import strategies as st

RULE = DedupSettings(distance=2, grey_distance=4)
FLAT = facts_pb2.Refusal(reason=facts_pb2.REFUSAL_REASON_FLAT)


@st.composite
def images(draw) -> list[facts_pb2.Hashed]:
    """What any replica says of each image: the same, since hashing is a function of the bytes."""
    found = []
    for number in range(draw(st.integers(1, 12))):
        fact = facts_pb2.Hashed(collection="c", image=f"{number:064x}", algorithm="a/1", width=draw(st.integers(1, 3)), height=1, size=draw(st.integers(1, 2)))
        if draw(st.integers(0, 7)):
            fact.phash, fact.embedder, fact.embedding = draw(st.integers(0, 127)), "n", bytes([127, draw(st.sampled_from([0, 60, 120]))])
        else:
            fact.refusal.CopyFrom(FLAT)
        found.append(fact)
    return found


class System:
    """The streams, and one index at a time; the facts come from as many replicas as one likes."""

    def __init__(self) -> None:
        self.hashed: dict[str, Known] = {}
        self.said: dict[str, facts_pb2.Deduplicated] = {}
        self.start()

    def start(self) -> None:
        """A new process: rebuilt from the facts, then compared with what was said."""
        self.state = CollectionState(RULE, self.hashed.values())
        self.said |= {fact.image: fact for fact in self.state.facts("c")}

    def hash(self, fact: facts_pb2.Hashed) -> None:
        """A replica's word; one that is there already is not published again."""
        self.hashed.setdefault(fact.image, Known(fact, len(self.hashed) + 1))

    def deliver(self, image: str, survives: int) -> None:
        """The index takes a fact in, and says what changed: all, or the first few, before it is killed."""
        changed = sorted(self.state.apply(self.hashed[image]))
        for each in changed[:survives]:
            self.said[each] = self.state.fact("c", each, 0)
        if survives < len(changed):
            self.start()


@given(known=images(), data=st.data())
@settings(max_examples=120, deadline=None)
def test_shuffles_repeats_kills_and_replicas_change_nothing(known, data):
    system = System()
    waiting: list[str] = []
    for fact in data.draw(st.permutations(known * data.draw(st.integers(1, 3)))):
        system.hash(fact)
        waiting.append(fact.image)
        while waiting and data.draw(st.booleans()):
            image = waiting.pop(data.draw(st.integers(0, len(waiting) - 1)))
            system.deliver(image, data.draw(st.sampled_from([0, 1, 99])))
        if not data.draw(st.integers(0, 9)):
            system.start()
    for image in waiting:
        system.deliver(image, 99)
    expected = {fact.image: fact for fact in CollectionState(RULE, [Known(fact, 1) for fact in known]).facts("c")}
    assert system.said == expected
    assert system.state.counts().flat == sum(fact.HasField("refusal") for fact in known)


def test_an_older_word_than_the_last_is_ignored():
    good = facts_pb2.Hashed(collection="c", image="a" * 64, algorithm="a/1", phash=1, width=1, height=1, size=1)
    bad = facts_pb2.Hashed(collection="c", image="a" * 64, algorithm="a/1", refusal=FLAT)
    state = CollectionState(RULE, [Known(bad, 5)])
    assert state.apply(Known(good, 4)) == set()
    assert state.counts().flat == 1
    assert state.apply(Known(good, 6)) == {"a" * 64}
    assert state.apply(Known(bad, 5)) == set()
    assert (state.counts().images, state.counts().flat) == (1, 0)
    state.apply(Known(bad, 7))
    assert (state.images(), state.counts().flat) == ([], 1)


def test_a_changed_rule_decides_from_what_is_known():
    facts = [facts_pb2.Hashed(collection="c", image=f"{i:064x}", algorithm="a/1", phash=(1 << i) - 1, width=9 - i, height=1, size=1) for i in range(6)]
    facts[4].embedder, facts[4].embedding = facts[0].embedder, facts[0].embedding = "n", b"\x7f\x10"
    state = CollectionState(DedupSettings(distance=3), [Known(fact, 1) for fact in facts])
    assert [int(f.kept, 16) for f in sorted(state.facts("c"), key=lambda f: f.image)] == [0, 0, 0, 0, 4, 4]
    grey = state.with_rule(DedupSettings(distance=3, grey_distance=8))
    assert [int(f.kept, 16) for f in sorted(grey.facts("c"), key=lambda f: f.image)] == [0, 0, 0, 0, 0, 5]
    assert grey.fact("c", facts[4].image, 0).kind == facts_pb2.DUPLICATE_KIND_NEAR
