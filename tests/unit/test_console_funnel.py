"""The funnel adds up, whatever the facts are and in whatever order they come."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from cosmop_common.names import fact_subject, kind_of
from cosmop_common.pb.cosmop.v1 import facts_pb2
from cosmop_console import database, funnel
from cosmop_console.outcome import ImageState, Letter, Outcome, decide
from cosmop_console.projection import Projection
from hypothesis import given
from hypothesis import strategies as st

IMAGES = [f"{i:064x}" for i in range(5)]
TOO_SMALL = facts_pb2.Refusal(reason=facts_pb2.REFUSAL_REASON_TOO_SMALL)
FLAT = facts_pb2.Refusal(reason=facts_pb2.REFUSAL_REASON_FLAT)


def scraped(image: str, refusal: facts_pb2.Refusal | None = None) -> facts_pb2.Scraped:
    return facts_pb2.Scraped(collection="c", image=image, refusal=refusal)


def sighted(image: str, url: str = "http://a/1") -> facts_pb2.Sighted:
    return facts_pb2.Sighted(collection="c", image=image, image_url=url)


def hashed(image: str, refusal: facts_pb2.Refusal | None = None) -> facts_pb2.Hashed:
    return facts_pb2.Hashed(collection="c", image=image, phash=7, refusal=refusal)


def deduplicated(image: str, kind: int = facts_pb2.DUPLICATE_KIND_UNIQUE, kept: str = "") -> facts_pb2.Deduplicated:
    return facts_pb2.Deduplicated(collection="c", image=image, kind=kind, kept=kept or image)


def screened(image: str, people: bool = True, refusal: facts_pb2.Refusal | None = None) -> facts_pb2.Screened:
    return facts_pb2.Screened(collection="c", image=image, people=people, refusal=refusal)


def labelled(image: str, label: str, labeller: str = "ann") -> facts_pb2.Labelled:
    return facts_pb2.Labelled(collection="c", image=image, labeller=labeller, label=label)


def dead(image: str, kind: str, sequence: int) -> facts_pb2.DeadLetter:
    return facts_pb2.DeadLetter(collection="c", image=image, subject=f"cosmop.facts.{kind}.c.{image}", sequence=sequence, consumer="w", reason="broke")


def build(events: list[tuple[object, int]]) -> funnel.Funnel:
    db = database.in_memory()
    projection = Projection(db)
    for fact, sequence in events:
        if isinstance(fact, facts_pb2.DeadLetter):
            projection.letter(fact, sequence)
        else:
            projection.apply(fact, sequence)
    return funnel.count(db, "c")


def of(*facts: object) -> funnel.Funnel:
    return build([(fact, i + 1) for i, fact in enumerate(facts)])


images = st.sampled_from(IMAGES)
events = st.one_of(
    st.builds(scraped, images, st.sampled_from([None, TOO_SMALL])),
    st.builds(sighted, images, st.sampled_from(["http://a/1", "http://b/2", "http://c/3"])),
    st.builds(hashed, images, st.sampled_from([None, FLAT])),
    st.builds(deduplicated, images, st.sampled_from([1, 2, 3]), images),
    st.builds(screened, images, st.booleans(), st.sampled_from([None, FLAT])),
    st.builds(labelled, images, st.sampled_from(["yes", "no", ""]), st.sampled_from(["ann", "bob"])),
    st.builds(lambda i: facts_pb2.Erased(collection="c", image=i), images),
    st.builds(dead, images, st.sampled_from(["scraped", "hashed", "deduplicated", "screened"]), st.integers(1, 20)),
)


@given(st.lists(events, max_size=60), st.randoms(use_true_random=False))
def test_every_download_has_one_outcome_in_any_order(history: list[object], chance: random.Random) -> None:
    """Streams are followed side by side, and hold only the last value of a subject: neither may show in the funnel."""
    streams: dict[str, list[tuple[object, int]]] = {}
    last: dict[str, object] = {}
    for fact in history:
        letter = isinstance(fact, facts_pb2.DeadLetter)
        stream = streams.setdefault("DEAD" if letter else kind_of(fact), [])
        stream.append((fact, len(stream) + 1))
        last[f"{id(fact)}" if letter else fact_subject(fact)] = fact
    live = build([event for name in sorted(streams) for event in streams[name]])
    queues = [[e for e in stream if e[0] in list(last.values())] for stream in streams.values()]
    rebuilt: list[tuple[object, int]] = []
    while queues := [q for q in queues if q]:
        rebuilt.append(chance.choice(queues).pop(0))
    assert live.conserved
    assert build(rebuilt) == live
    downloads = {(f.image, f.image_url) for f in history if isinstance(f, facts_pb2.Sighted)}
    assert live.scraped >= len(downloads)


def test_each_sum_is_counted_once() -> None:
    a, b, c, d, e = IMAGES
    counts = of(
        scraped(a), sighted(a), sighted(a, "http://b/2"), hashed(a), deduplicated(a), screened(a),
        scraped(b), sighted(b), hashed(b), deduplicated(b, facts_pb2.DUPLICATE_KIND_NEAR, a),
        scraped(c, TOO_SMALL), sighted(c), sighted(c, "http://b/3"),
        scraped(d), sighted(d), hashed(d, FLAT),
        scraped(e), sighted(e),
        labelled(b, "yes"),
    )  # fmt: skip
    assert counts.scraped == 7
    assert counts.duplicates == {"exact": 2, "same_hash": 0, "near": 1}
    assert counts.rejected == {"too_small": 1, "flat": 1}
    assert (counts.unique, counts.people, counts.pending) == (1, 1, 1)
    assert counts.labelled == {"yes": 1}, "a label of a copy counts for the image that is kept"
    assert counts.conserved


def test_an_image_without_its_sighting_is_one_download() -> None:
    assert of(scraped(IMAGES[0])).scraped == 1
    assert of(sighted(IMAGES[0])).pending == 1


def test_an_image_sighted_after_its_erasure_stays_erased() -> None:
    counts = of(scraped(IMAGES[0]), facts_pb2.Erased(collection="c", image=IMAGES[0]), sighted(IMAGES[0]), sighted(IMAGES[0], "http://b/2"))
    assert (counts.scraped, counts.erased, counts.duplicates["exact"]) == (2, 1, 1)


def test_a_label_alone_is_no_download() -> None:
    assert of(labelled(IMAGES[0], "yes")).scraped == 0


UNIQUE = ImageState(kind="unique", sequences={"scraped": 1, "hashed": 1, "deduplicated": 5})


@pytest.mark.parametrize(
    ("state", "outcome"),
    [
        (replace(UNIQUE, letters=(Letter("deduplicated", 5, "broke"),)), Outcome.FAILED),
        (replace(UNIQUE, letters=(Letter("deduplicated", 4, "broke"),)), Outcome.UNSCREENED),
        (replace(UNIQUE, people=True, sequences=UNIQUE.sequences | {"screened": 2}, letters=(Letter("deduplicated", 5, "broke"),)), Outcome.PEOPLE),
        (replace(UNIQUE, kind="near", letters=(Letter("deduplicated", 5, "broke"),)), Outcome.NEAR),
        (ImageState(sequences={"scraped": 1}, letters=(Letter("scraped", 1, "broke"),)), Outcome.FAILED),
        (ImageState(letters=(Letter("scraped", 1, "broke"),)), Outcome.FAILED),
        (ImageState(sequences={"scraped": 1, "hashed": 2}, letters=(Letter("scraped", 1, "broke"),)), Outcome.PENDING),
        (ImageState(erased=True, scrape_refusal="corrupt"), Outcome.ERASED),
        (replace(UNIQUE, screen_refusal="corrupt"), Outcome.REJECTED),
    ],
)
def test_a_dead_letter_holds_an_image_up_until_it_is_answered_or_outdated(state: ImageState, outcome: Outcome) -> None:
    assert decide(state)[0] is outcome
