"""What is decided is a function of the set of images: of their order, repetition and removal nothing is left in it."""

from __future__ import annotations

import numpy as np
from cosmop_common.collection import DedupSettings
from cosmop_dedup.decide import decide
from cosmop_dedup.index import CollectionIndex, Decision, Member
from cosmop_dedup.search import near_pairs, pair_distances
from hypothesis import given, settings
from hypothesis import strategies as st

#: None, three directions of one network, and one of another.
EMBEDDINGS = [("", b""), ("n", bytes([127, 0])), ("n", bytes([127, 60])), ("n", bytes([0, 127])), ("m", bytes([127, 0]))]


@st.composite
def members(draw, most: int = 24) -> list[Member]:
    """Images whose hashes lie close together, so that chains and ties are the rule."""
    count = draw(st.integers(0, most))
    found = []
    for number in range(count):
        # Eight distinct bits: distances 0 to 8, many of them equal.
        hashes = tuple(draw(st.integers(0, 255)) * 0x0101010101 for _ in range(8))
        found.append(Member.of(f"{number:064x}", hashes, draw(st.integers(1, 3)), draw(st.integers(1, 2)), draw(st.sampled_from(EMBEDDINGS))))
    return found


def bit_count(number: np.uint64) -> int:
    return int(number).bit_count()


def bits_between(a: Member, b: Member, flips: bool) -> int:
    if not flips:
        return bit_count(a.hashes[0] ^ b.hashes[0])
    return min(*(bit_count(a.hashes[0] ^ h) for h in b.hashes), *(bit_count(b.hashes[0] ^ h) for h in a.hashes))


def alike(a: Member, b: Member, rule: DedupSettings) -> bool:
    if a.embedding[0] != b.embedding[0] or not a.embedding[1]:
        return False
    one, other = (np.frombuffer(m.embedding[1], np.int8).astype(float) for m in (a, b))
    return float(one @ other / np.linalg.norm(one) / np.linalg.norm(other)) >= rule.grey_similarity


def copies(a: Member, b: Member, rule: DedupSettings) -> bool:
    bits = bits_between(a, b, rule.flips)
    return bits <= rule.distance or (bits <= rule.grey_distance and alike(a, b, rule))


def oracle(images: list[Member], rule: DedupSettings) -> dict[str, Decision]:
    """The rule as it is said, with no cleverness."""
    kept: list[Member] = []
    decisions = {}
    for member in sorted(images, key=lambda m: (-m.pixels, -m.size, m.image)):
        near = [(bits_between(member, k, rule.flips), position, k) for position, k in enumerate(kept) if copies(member, k, rule)]
        if near:
            bits, _, best = min(near, key=lambda n: n[:2])
            decisions[member.image] = Decision(member.image, best.image, bits)
        else:
            kept.append(member)
            decisions[member.image] = Decision(member.image, member.image, 0)
    return decisions


def decisions_of(index: CollectionIndex) -> dict[str, Decision]:
    return {image: index.decision(image) for image in index.images()}


rules = st.builds(
    DedupSettings, distance=st.integers(0, 25), flips=st.booleans(), grey_distance=st.integers(0, 32), grey_similarity=st.sampled_from([0.5, 0.95])
)


@given(images=members(), rule=rules)
@settings(deadline=None)
def test_deciding_at_once_follows_the_rule(images, rule):
    assert decisions_of(CollectionIndex(rule, images)) == oracle(images, rule)


@given(images=members(), data=st.data(), rule=rules)
@settings(max_examples=150, deadline=None)
def test_any_order_and_repetition_of_arrivals_ends_the_same(images, data, rule):
    arrivals = data.draw(st.permutations(images + data.draw(st.lists(st.sampled_from(images), max_size=5) if images else st.just([]))))
    index = CollectionIndex(rule)
    said: dict[str, Decision] = {}
    for arrival in arrivals:
        for image in index.put(arrival):
            said[image] = index.decision(image)
    assert said == decisions_of(index) == oracle(images, rule)


@given(images=members(), data=st.data(), rule=rules)
@settings(max_examples=150, deadline=None)
def test_removals_and_changes_leave_no_trace(images, data, rule):
    cut = data.draw(st.integers(0, len(images)))
    index = CollectionIndex(rule, images[:cut])
    said = decisions_of(index)
    present = {m.image: m for m in images[:cut]}
    for member in data.draw(st.lists(st.sampled_from(images), max_size=12) if images else st.just([])):
        if member.image in present and data.draw(st.booleans()):
            changed = index.remove(member.image)
            del present[member.image], said[member.image]
        else:
            like = data.draw(st.sampled_from(images))
            other = Member.of(member.image, like.hashes.tolist(), data.draw(st.integers(1, 3)), member.size, like.embedding)
            changed = index.put(other)
            present[member.image] = other
        said.update({image: index.decision(image) for image in changed})
    assert said == decisions_of(index) == oracle(list(present.values()), rule)


def test_what_is_published_is_only_what_changed():
    index = CollectionIndex(DedupSettings(distance=4))
    assert index.put(Member.of("b" * 64, (0,) * 8, 10, 1)) == {"b" * 64}
    assert index.put(Member.of("c" * 64, (2**63,) * 8, 20, 1)) == {"b" * 64, "c" * 64}
    assert index.decision("b" * 64) == Decision("b" * 64, "c" * 64, 1)
    assert index.put(Member.of("d" * 64, (0xFFFF,) * 8, 99, 1)) == {"d" * 64}
    assert index.put(Member.of("d" * 64, (0xFFFF,) * 8, 99, 1)) == set()
    assert index.remove("c" * 64) == {"b" * 64}
    assert index.remove("c" * 64) == set()


def test_clusters_do_not_chain():
    chain = [Member.of(f"{i:064x}", ((1 << i) - 1,) * 8, 100 - i, 1) for i in range(8)]
    index = CollectionIndex(DedupSettings(distance=2), chain)
    for image in index.images():
        decision = index.decision(image)
        assert decision.distance <= 2
    assert [int(index.decision(m.image).kept, 16) for m in chain] == [0, 0, 0, 3, 3, 3, 6, 6]


@given(st.integers(0, 12), st.integers(0, 5))
@settings(max_examples=20, deadline=None)
def test_deciding_in_blocks_equals_deciding_one_by_one(distance, seed):
    rng = np.random.default_rng(seed)
    hashes = rng.integers(0, 2**64, 60, dtype=np.uint64)[rng.integers(0, 60, 2500)] ^ (np.uint64(1) << rng.integers(0, 64, 2500).astype(np.uint64))
    kept, bits = decide(hashes[:, None], DedupSettings(distance=distance))
    keepers: list[int] = []
    for i in range(len(hashes)):
        near = np.bitwise_count(hashes[keepers] ^ hashes[i])
        if keepers and near.min() <= distance:
            assert (kept[i], bits[i]) == (keepers[int(near.argmin())], near.min())
        else:
            assert (kept[i], bits[i]) == (i, 0)
            keepers.append(i)


@given(st.lists(st.integers(0, 2**64 - 1), max_size=40), st.integers(0, 64))
@settings(deadline=None)
def test_near_pairs_are_all_pairs(values, distance):
    hashes = np.array(values, np.uint64)
    expected = {(i, j) for i in range(len(values)) for j in range(i + 1, len(values)) if (values[i] ^ values[j]).bit_count() <= distance}
    found = [tuple(p) for p in near_pairs(hashes, distance, block=7).tolist()]
    assert len(found) == len(set(found))
    assert set(found) == expected


def test_pair_distances_are_symmetric():
    hashes = np.random.default_rng(0).integers(0, 2**64, (20, 8), dtype=np.uint64)
    found = pair_distances(hashes)
    assert np.array_equal(found, found.T)


def test_near_finds_the_nearest_first_and_turned_ones_on_request():
    turned = (0xFF, 1, 2, 3, 4, 5, 6, 7)
    index = CollectionIndex(DedupSettings(flips=True), [Member.of("a" * 64, turned, 1, 1), Member.of("b" * 64, (0xFFFF,) * 8, 2, 1)])
    assert index.near(np.array([0xFF], np.uint64), 8, 5) == [("a" * 64, 0), ("b" * 64, 8)]
    assert index.near(np.array([0xFF], np.uint64), 8, 1) == [("a" * 64, 0)]
    assert index.near(np.array([0xF0F0F0F0F0F0F0F0, 0xFFFF], np.uint64), 0, 5) == [("b" * 64, 0)]
    assert index.near(np.array([0xF0F0F0F0F0F0F0F0], np.uint64), 0, 5) == []


@given(images=members(), k=st.integers(1, 12), distance=st.integers(0, 64))
@settings(max_examples=60, deadline=None)
def test_near_gives_the_k_first_by_distance_and_rank(images, k, distance):
    index = CollectionIndex(DedupSettings(), images)
    query = np.array([0x0101010101], np.uint64)
    ranked = sorted((bit_count(m.hashes[0] ^ query[0]), -m.pixels, -m.size, m.image) for m in images)
    assert index.near(query, distance, k) == [(image, bits) for bits, _, _, image in ranked if bits <= distance][:k]
