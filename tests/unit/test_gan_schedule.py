"""When snapshots are taken, when training ends, which snapshot is best: pure decisions."""

from __future__ import annotations

import pytest
from cosmop_common.records import EvaluationRecord, MeasureRecord
from cosmop_gan_trainer import ranking
from cosmop_gan_trainer.config import TrainConfig
from cosmop_gan_trainer.guard import Guard
from cosmop_gan_trainer.ranking import Judged
from cosmop_gan_trainer.schedule import Schedule


def simulate(schedule: Schedule, seconds_per_kimg: float, batch: float = 0.032) -> tuple[list[float], str, float]:
    """Snapshots' kimg, why it ended, and when."""
    step, taken = 0, []
    while True:
        step += 1
        kimg = step * batch
        seconds = kimg * seconds_per_kimg
        if schedule.due(kimg, seconds, len(taken)):
            taken.append(kimg)
            if why := schedule.ended(kimg, seconds, len(taken)):
                return taken, why, seconds


def test_without_a_budget_snapshots_are_even_in_kimg() -> None:
    taken, why, _ = simulate(Schedule(8, 4), 20)
    assert taken == pytest.approx([2, 4, 6, 8], abs=0.04)
    assert why == "kimg reached"


def test_a_budget_that_suffices_changes_nothing() -> None:
    assert simulate(Schedule(8, 4, max_seconds=1000), 20)[0] == simulate(Schedule(8, 4), 20)[0]


def test_a_budget_that_cuts_the_run_spreads_the_snapshots_over_it() -> None:
    taken, why, seconds = simulate(Schedule(100, 4, max_seconds=160, reserve=3), 20)
    assert why == "time budget"
    assert len(taken) == 4
    assert 155 < seconds <= 160
    gaps = [b - a for a, b in zip([0.0, *taken[:-1]], taken, strict=True)]
    assert max(gaps) < 1.3 * min(gaps)


def test_however_short_the_budget_there_are_three_snapshots() -> None:
    taken, why, _ = simulate(Schedule(100, 5, max_seconds=0.01), 20)
    assert taken == pytest.approx([0.032, 0.064, 0.096])
    assert why == "time budget"
    assert len(simulate(Schedule(100, 1, max_seconds=0.01), 20)[0]) == 1


def judged(kimg: float, value: float | None = None, protocol: str = "p", failure: str = "") -> Judged:
    record = None
    if value is not None:
        record = EvaluationRecord(
            run="r", reference="a", candidate="b", measures=[MeasureRecord(name="fid", value=value)], protocol=protocol, reference_images=9, candidate_images=9
        )
    return Judged(kimg, record, failure)


def test_the_best_is_the_lowest_and_the_earlier_of_equals() -> None:
    assert ranking.best([judged(3, 50), judged(1, 90), judged(2, 50)]).kimg == 2
    assert ranking.best([judged(1), judged(2, failure="x")]) is None
    assert ranking.best([judged(0, 10), judged(1, 90), judged(2, 80)]).kimg == 2, "the untrained one is no candidate"


def test_values_of_another_protocol_are_not_compared() -> None:
    assert ranking.best([judged(1, 10, protocol="other"), judged(2, 70), judged(3, 60)]).kimg == 3


def test_rising_needs_patience_in_a_row() -> None:
    falling_then_up = [judged(1, 90), judged(2, 50), judged(3, 60), judged(4, 55)]
    assert ranking.rising(falling_then_up, 2)
    assert not ranking.rising(falling_then_up, 3)
    assert not ranking.rising([*falling_then_up, judged(5, 49)], 2)
    assert not ranking.rising(falling_then_up, 0)


def test_evaluations_are_judged_in_the_order_of_kimg() -> None:
    assert not ranking.rising([judged(1, 90), judged(2, 50), judged(3), judged(4, 60), judged(5, 60)], 2)
    assert ranking.rising([judged(1, 90), judged(2, 50), judged(3, failure="evaluator died"), judged(4, 60), judged(5, 60)], 2)


def with_recall(kimg: float, recall: float) -> Judged:
    snapshot = judged(kimg, 50.0)
    snapshot.record.measures.append(MeasureRecord(name="recall", value=recall))
    return snapshot


def test_recall_that_falls_and_stays_low_is_a_collapse() -> None:
    guard = Guard(TrainConfig(), 200)
    good = [with_recall(1, 0.1), with_recall(2, 0.4)]
    assert guard.judge([*good, with_recall(3, 0.05), with_recall(4, 0.02)]) == "collapse: recall fell from 0.4 to 0.02"
    assert not guard.judge([*good, with_recall(3, 0.05)])
    assert not guard.judge([*good, with_recall(3, 0.05), with_recall(4, 0.2)])
    assert not guard.judge([*good, judged(3), with_recall(4, 0.0), with_recall(5, 0.0)])
    assert not Guard(TrainConfig(), 0).judge([*good, with_recall(3, 0.05), with_recall(4, 0.02)])


def test_a_discriminator_that_nothing_holds_back_is_a_collapse() -> None:
    guard = Guard(TrainConfig(), 200)
    assert not guard.see(100, 0.8, 1.0)
    assert not guard.see(299, 0.8, 1.0)
    assert "p at its cap of 0.8" in guard.see(300, 0.8, 0.99)
    assert not guard.see(301, 0.8, 0.9)
    assert not guard.see(600, 0.8, 1.0)
    assert not Guard(TrainConfig(), 200, since=0).see(500, 0.79, 1.0)
    assert not Guard(TrainConfig(ada_target=0), 200, since=0).see(500, 0.8, 1.0)
