"""Dataset versions: deterministic, near-duplicates never parted, images stay in their split, labels agreed on."""

from __future__ import annotations

import random

import pytest
from cosmop_common.collection import Collection
from cosmop_common.datasets import write_manifest
from cosmop_console.consensus import Consensus, Verdict, Vote, consensus
from cosmop_console.datasets import Candidate, manifest_rows
from cosmop_console.outcome import Outcome
from cosmop_console.splits import Shares, assign, group_images
from hypothesis import given
from hypothesis import strategies as st

COLLECTION = Collection.model_validate({"name": "c", "classes": ["yes", "no"], "positive": "yes", "dataset": {"group_distance": 3}})


def candidate(image: int, phash: int, label: str = "yes", **changes: object) -> Candidate:
    values = {
        "image": f"{image:064x}", "outcome": Outcome.PEOPLE, "verdict": Verdict.AGREED if label else Verdict.UNLABELLED, "label": label,
        "labellers": 1, "width": 64, "height": 64, "phash": phash, "algorithm": "phash-ac-mean/1",
    }  # fmt: skip
    return Candidate(**(values | changes))


candidates = st.lists(
    st.builds(candidate, st.integers(0, 2**64), st.integers(0, 2**9), st.sampled_from(["yes", "no", ""])), min_size=1, max_size=60, unique_by=lambda c: c.image
)


@given(candidates, st.randoms(use_true_random=False))
def test_near_duplicates_are_never_parted_and_the_order_does_not_matter(images: list[Candidate], chance: random.Random) -> None:
    rows, _ = manifest_rows(images, COLLECTION, {})
    hashes = {c.image: c.phash for c in images}
    for a in rows:
        for b in rows:
            if (hashes[a.image] ^ hashes[b.image]).bit_count() <= 3:
                assert (a.split, a.group) == (b.split, b.group)
    shuffled = chance.sample(images, len(images))
    assert write_manifest(manifest_rows(shuffled, COLLECTION, {})[0]) == write_manifest(rows)


@given(candidates)
def test_freezing_again_is_the_same_version(images: list[Candidate]) -> None:
    rows, _ = manifest_rows(images, COLLECTION, {})
    again, _ = manifest_rows(images, COLLECTION, {r.image: r.split for r in rows})
    assert again == rows


@given(candidates, candidates)
def test_images_stay_in_their_split_when_others_join(images: list[Candidate], others: list[Candidate]) -> None:
    before, _ = manifest_rows(images, COLLECTION, {})
    splits = {r.image: r.split for r in before}
    joined = {c.image: c for c in [*others, *images]}
    after, _ = manifest_rows(list(joined.values()), COLLECTION, splits)
    grown: dict[str, set[str]] = {}
    for row in after:
        if row.image in splits:
            grown.setdefault(row.group, set()).add(splits[row.image])
    classes = {r.image: r.label for r in after}
    for row in after:
        settled = grown.get(row.group, set())
        if len(settled) == 1 and sum(label == row.label for label in classes.values()) > 20:
            assert row.split in settled, "only groups that grew together, or a class too small for its splits, move"


@given(candidates)
def test_every_image_is_in_the_manifest_or_counted_out(images: list[Candidate]) -> None:
    rows, left_out = manifest_rows(images, COLLECTION, {})
    assert len(rows) + sum(left_out.values()) == len(images)


@pytest.mark.parametrize(("groups", "filled"), [(1, {"train"}), (2, {"train", "test"}), (3, {"train", "test", "val"}), (9, {"train", "test", "val"})])
def test_a_class_fills_as_many_splits_as_it_has_groups(groups: int, filled: set[str]) -> None:
    for offset in range(40):
        names = {f"{i + offset * 100:064x}": "yes" for i in range(groups)}
        splits = assign(names, {n: n for n in names}, Shares(test=0.2, val=0.1), {})
        assert set(splits.values()) == filled


def test_splits_have_about_the_shares_asked_for() -> None:
    names = {f"{i:064x}": "yes" for i in range(4000)}
    splits = list(assign(names, {n: n for n in names}, Shares(test=0.2, val=0.1), {}).values())
    assert splits.count("test") / 4000 == pytest.approx(0.2, abs=0.03)
    assert splits.count("val") / 4000 == pytest.approx(0.1, abs=0.03)


def test_a_group_is_named_after_its_smallest_image() -> None:
    assert group_images({"b": 0b1, "a": 0b11, "c": 0b111, "d": 2**63 + 2**40 + 2**20}, 1) == {"a": "a", "b": "a", "c": "a", "d": "d"}


def test_an_unlabelled_image_ties_two_labelled_ones_together() -> None:
    rows, left_out = manifest_rows([candidate(1, 0b0), candidate(2, 0b111, label=""), candidate(3, 0b111111)], COLLECTION, {})
    assert {r.group for r in rows} == {f"{1:064x}"}
    assert left_out == {"unlabelled": 1}


def test_what_stays_out_is_counted_by_its_reason() -> None:
    images = [
        candidate(1, 1), candidate(2, 2**20, outcome=Outcome.NONE), candidate(3, 2**30, outcome=Outcome.NEAR), candidate(4, 2**40, label=""),
        candidate(5, 2**50, verdict=Verdict.DISPUTED), candidate(6, 2**60, verdict=Verdict.UNSURE), candidate(7, 2**15, label="maybe"),
        candidate(8, 2**25, outcome=Outcome.UNSCREENED),
    ]  # fmt: skip
    rows, left_out = manifest_rows(images, COLLECTION, {})
    assert [r.image for r in rows] == [f"{1:064x}"]
    assert left_out == {"disputed": 1, "duplicate": 1, "no_people": 1, "unknown_class": 1, "unlabelled": 1, "unscreened": 1, "unsure": 1}


@pytest.mark.parametrize(
    ("votes", "expected"),
    [
        ([], Consensus(Verdict.UNLABELLED)),
        ([Vote("ann", "")], Consensus(Verdict.UNLABELLED)),
        ([Vote("ann", "yes")], Consensus(Verdict.AGREED, "yes", 1)),
        ([Vote("ann", "yes"), Vote("ann", "yes")], Consensus(Verdict.AGREED, "yes", 1)),
        ([Vote("ann", "yes"), Vote("ann", "no"), Vote("bob", "yes"), Vote("cem", "yes")], Consensus(Verdict.DISPUTED)),
        ([Vote("ann", "yes"), Vote("bob", "no")], Consensus(Verdict.DISPUTED)),
        ([Vote("ann", "yes"), Vote("bob", "no"), Vote("cem", "yes")], Consensus(Verdict.AGREED, "yes", 2)),
        ([Vote("ann", "", unsure=True)], Consensus(Verdict.UNSURE)),
        ([Vote("ann", "yes"), Vote("bob", "", unsure=True)], Consensus(Verdict.UNSURE)),
    ],
)
def test_consensus_is_the_majority_of_who_looked(votes: list[Vote], expected: Consensus) -> None:
    assert consensus(votes) == expected
