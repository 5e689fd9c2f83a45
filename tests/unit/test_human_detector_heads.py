"""Heads, thresholds, batches and labelled folders: pure parts of the human detector."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from cosmop_human_detector.batching import Batcher
from cosmop_human_detector.errors import ModelFileError, TrainingDataError
from cosmop_human_detector.features import Examples
from cosmop_human_detector.fitting import balance
from cosmop_human_detector.heads import Head, HeadShape, soft_maximum, windows
from cosmop_human_detector.measures import auroc, measure, wilson
from cosmop_human_detector.ordered import in_order
from cosmop_human_detector.photos import read_folder
from cosmop_human_detector.thresholds import choose_threshold, upper_bound
from cosmop_human_detector.training import folds, score, train

SHAPE = HeadShape(window=2, tau=0.5)


def head(features: int = 8) -> Head:
    random = np.random.default_rng(0)
    return Head(SHAPE, random.normal(size=features).astype(np.float32), 0.25)


def examples(count: int = 60, features: int = 8) -> Examples:
    """People carry a sign in one of nine windows."""
    random = np.random.default_rng(1)
    people = np.arange(count) % 2 == 0
    array = random.normal(size=(count, 9, features)).astype(np.float32)
    array[people, random.integers(0, 9, int(people.sum())), 3] += 6
    return Examples(array, people, np.array([""] * count), tuple(f"{i:064x}" for i in range(count)))


def test_a_head_survives_its_file() -> None:
    again = Head.from_bytes(head().to_bytes())
    assert again.shape == SHAPE
    assert again.bias == 0.25
    np.testing.assert_array_equal(again.weight, head().weight)
    assert again.to_bytes() == head().to_bytes()


@pytest.mark.parametrize("data", [b"", b"damaged", head().to_bytes()[:-3], Head(SHAPE, np.full(4, np.nan, np.float32), 0.0).to_bytes()])
def test_a_damaged_head_is_refused(data: bytes) -> None:
    with pytest.raises(ModelFileError, match="activate another version"):
        Head.from_bytes(data)


def test_scoring_maps_equals_scoring_their_windows() -> None:
    maps = np.random.default_rng(2).normal(size=(3, 8, 5, 5)).astype(np.float32)
    np.testing.assert_allclose(head().scores(maps), score(head(), windows(maps, SHAPE)), rtol=1e-5)


def test_windows_cover_the_map_in_half_steps() -> None:
    maps = np.arange(16, dtype=np.float32).reshape(1, 1, 4, 4)
    found = windows(maps, HeadShape(window=2))
    assert found.shape == (1, 9, 1)
    assert found[0, 0, 0] == maps[0, 0, :2, :2].mean()
    assert found[0, -1, 0] == maps[0, 0, 2:, 2:].mean()
    assert windows(maps, HeadShape(window=9)).shape == (1, 1, 1)


def test_the_soft_maximum_lies_between_mean_and_maximum() -> None:
    logits = np.array([[0.0, 1.0, 5.0]], np.float32)
    assert soft_maximum(logits, 0.01)[0] == pytest.approx(5, abs=0.02)
    assert soft_maximum(logits, 1000)[0] == pytest.approx(2, abs=0.01)


def test_training_finds_the_sign_in_one_window_and_states_its_miss_rate() -> None:
    trained = train(examples(200), SHAPE, 0.05)
    assert trained.held_out["accuracy"].value > 0.9
    assert trained.threshold.miss_rate <= 0.05 < trained.threshold.miss_rate_bound + 0.05
    fresh = examples(100)
    assert int(np.argmax(trained.head.weight)) == 3
    assert np.mean((score(trained.head, fresh.windows) >= trained.threshold.value) == fresh.people) > 0.9


def test_near_duplicates_share_a_fold_and_both_kinds_are_in_each() -> None:
    data = examples(40)
    data.windows[7] = data.windows[1]
    assigned = folds(data)
    assert assigned[7] == assigned[1]
    for fold in range(5):
        assert set(data.people[assigned == fold]) == {True, False}


def test_too_few_images_are_refused() -> None:
    with pytest.raises(TrainingDataError, match="at least 10 of each"):
        folds(examples(12))


def test_balance_gives_each_class_half_and_large_sources_less_than_their_share() -> None:
    people = np.array([True] * 10 + [False] * 30)
    sources = np.array(["a"] * 9 + ["b"] + ["c"] * 30)
    weights = balance(people, sources)
    assert weights[people].sum() == pytest.approx(0.5)
    assert weights[:9].sum() == pytest.approx(3 * weights[9])


def test_a_separable_threshold_lies_in_the_gap() -> None:
    scores, people = np.array([0.1, 0.2, 0.8, 0.9]), np.array([False, False, True, True])
    threshold = choose_threshold(scores, people, 0.5)
    assert threshold.value == pytest.approx(0.5)
    assert (threshold.miss_rate, threshold.false_alarm_rate) == (0, 0)
    assert threshold.band == (threshold.value, threshold.value)


@pytest.mark.parametrize("rate", [0.0, 0.02, 0.1])
def test_the_miss_rate_is_a_ceiling(rate: float) -> None:
    random = np.random.default_rng(3)
    people = np.arange(1000) < 300
    scores = np.clip(random.normal(np.where(people, 0.6, 0.4), 0.15), 0, 1)
    threshold = choose_threshold(scores, people, rate)
    assert (scores[people] < threshold.value).mean() <= rate
    assert threshold.miss_rate == pytest.approx((scores[people] < threshold.value).mean())
    assert threshold.miss_rate_bound > threshold.miss_rate
    assert threshold.band[0] <= threshold.value <= threshold.band[1]


def test_a_promise_keeps_the_bound_and_says_when_there_are_too_few_for_one() -> None:
    random = np.random.default_rng(4)
    people = np.arange(600) < 300
    scores = np.clip(random.normal(np.where(people, 0.6, 0.4), 0.15), 0, 1)
    seen, promised = choose_threshold(scores, people, 0.05), choose_threshold(scores, people, 0.05, promise=True)
    assert promised.promised
    assert not seen.promised
    assert promised.miss_rate_bound <= 0.05 < seen.miss_rate_bound
    assert promised.value < seen.value
    few = np.concatenate([np.flatnonzero(people)[:58], np.flatnonzero(~people)])
    assert not choose_threshold(scores[few], people[few], 0.05, promise=True).promised
    enough = np.concatenate([np.flatnonzero(people)[:59], np.flatnonzero(~people)])
    assert choose_threshold(scores[enough], people[enough], 0.05, promise=True).promised


def test_a_promise_is_kept_nineteen_times_of_twenty() -> None:
    """The bound is of the true miss rate, though the threshold was chosen on the same scores."""
    random = np.random.default_rng(5)
    people = np.arange(300) < 200
    kept = []
    for _ in range(300):
        # Uniform scores of people: the true miss rate of a threshold is the threshold.
        scores = np.where(people, random.random(300), 0.2 * random.random(300))
        kept.append(choose_threshold(scores, people, 0.1, promise=True).value <= 0.1)
    assert np.mean(kept) >= 0.92


def test_the_upper_bound_is_clopper_and_pearsons() -> None:
    assert upper_bound(0, 59) == pytest.approx(1 - 0.05 ** (1 / 59))
    assert upper_bound(5, 5) == 1.0


def test_measures_are_those_of_a_table() -> None:
    scores, people = np.array([0.9, 0.8, 0.2, 0.7, 0.1]), np.array([True, True, True, False, False])
    found = measure(scores, people, 0.5)
    assert found["recall"].value == pytest.approx(2 / 3)
    assert found["precision"].value == pytest.approx(2 / 3)
    assert found["specificity"].value == pytest.approx(1 / 2)
    assert found["accuracy"].value == pytest.approx(3 / 5)
    assert auroc(scores, people).value == pytest.approx(5 / 6)
    assert wilson(8, 10).interval == pytest.approx((0.4902, 0.9433), abs=1e-4)
    assert wilson(0, 0).value is None


async def test_batches_fill_and_each_caller_gets_its_own_score() -> None:
    sizes: list[int] = []

    def double(batch: np.ndarray) -> np.ndarray:
        sizes.append(len(batch))
        return batch[:, 0].astype(np.float64) * 2

    with ThreadPoolExecutor(1) as pool:
        batcher = Batcher(double, pool, size=4, seconds=0.3)
        answers = await asyncio.gather(*(batcher.score(np.array([i], np.float32)) for i in range(10)))
        await batcher.close()
    assert answers == [2 * i for i in range(10)]
    assert sizes == [4, 4, 2]


async def test_a_failing_batch_fails_its_callers_and_the_next_goes_on() -> None:
    def fail_on_negative(batch: np.ndarray) -> np.ndarray:
        if batch.min() < 0:
            raise ValueError("negative")
        return batch[:, 0].astype(np.float64)

    with ThreadPoolExecutor(1) as pool:
        batcher = Batcher(fail_on_negative, pool, size=1, seconds=0)
        with pytest.raises(ValueError, match="negative"):
            await batcher.score(np.array([-1], np.float32))
        assert await batcher.score(np.array([5], np.float32)) == 5
        await batcher.close()


async def test_answers_come_in_order_however_long_each_takes() -> None:
    async def work(i: int) -> int:
        await asyncio.sleep(0.02 if i % 3 == 0 else 0)
        return i

    async def requests():
        for i in range(20):
            yield i

    assert [i async for i in in_order(work, requests(), ahead=5)] == list(range(20))


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (None, "neither labels.csv"),
        ("name,kind\na.png,human\n", "columns file and label"),
        ("file,label\na.png,human\nb.png,no_human\n", "'b.png', which cannot be read"),
        ("file,label\n../x.png,human\n", "outside the folder"),
        ("file,label\na.png,human\n", "no image 'no_human'"),
    ],
)
def test_a_folder_that_cannot_be_trained_on_says_why(tmp_path: Path, table: str | None, message: str) -> None:
    (tmp_path / "a.png").write_bytes(b"a")
    if table is not None:
        (tmp_path / "labels.csv").write_text(table)
    with pytest.raises(TrainingDataError, match=message):
        read_folder(tmp_path)


def test_a_folder_leaves_out_what_has_no_label_or_is_broken(tmp_path: Path) -> None:
    for name in "abcd":
        (tmp_path / f"{name}.png").write_bytes(name.encode())
    (tmp_path / "labels.csv").write_text("file,label,truth\na.png,human,keep\nb.png,no_human,keep\nc.png,,keep\nd.png,human,corrupt\n")
    assert [(p.file, p.people) for p in read_folder(tmp_path)] == [("a.png", True), ("b.png", False)]
