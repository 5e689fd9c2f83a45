"""Temperature, conformal band and thresholds: what they promise, on data where the truth is known."""

from __future__ import annotations

import numpy as np
import pytest
from cosmop_classifier.calibration import band, conformal_quantile, expected_calibration_error, fit_temperature, probabilities, reliability
from cosmop_classifier.thresholds import Goal, GoalError, choose
from cosmop_classifier.train_binary import calibrate
from hypothesis import given
from hypothesis import strategies as st


def overconfident(n: int, factor: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Logits ``factor`` times too large, and the truth that the right ones describe."""
    rng = np.random.default_rng(seed)
    z = rng.normal(0, 1.5, n)
    return z * factor, rng.random(n) < 1 / (1 + np.exp(-z))


@pytest.mark.parametrize("factor", [0.4, 1.0, 3.0])
def test_the_temperature_is_the_factor_by_which_logits_are_off(factor: float) -> None:
    logits, truth = overconfident(20_000, factor)
    assert fit_temperature(logits, truth) == pytest.approx(factor, rel=0.06)


def test_calibration_mends_the_error_it_measures() -> None:
    logits, truth = overconfident(5000, 4.0)
    before = expected_calibration_error(probabilities(logits, 1.0), truth)
    after = expected_calibration_error(probabilities(logits, fit_temperature(logits, truth)), truth)
    assert before > 0.1
    assert after < 0.03


def test_a_separated_handful_is_not_infinitely_sure() -> None:
    logits, truth = np.array([-4.0, -5.0, -3.0, 4.0, 5.0, 3.0]), np.array([False] * 3 + [True] * 3)
    p = probabilities(logits, fit_temperature(logits, truth))
    assert 0.6 < p[truth].min() < 0.95


def test_reliability_counts_every_image_once() -> None:
    p, truth = np.array([0.0, 0.05, 0.5, 1.0]), np.array([False, True, True, True])
    assert reliability(p, truth) == [(0.025, 0.5, 2), (0.5, 1.0, 1), (1.0, 1.0, 1)]


@pytest.mark.parametrize("alpha", [0.05, 0.1, 0.2])
def test_outside_the_band_each_class_errs_no_more_than_alpha(alpha: float) -> None:
    rates = []
    for seed in range(30):
        logits, truth = overconfident(600, 1.0, seed)
        p = probabilities(logits, 1.0)
        low, high = band(p[:300], truth[:300], alpha)
        new, new_truth = p[300:], truth[300:]
        rates.append([np.mean(new[new_truth] <= low), np.mean(new[~new_truth] >= high)])
    assert np.mean(rates, axis=0) == pytest.approx([alpha, alpha], abs=0.035) or (np.mean(rates, axis=0) < alpha).all()


def test_too_few_images_make_everything_uncertain() -> None:
    p, truth = np.array([0.1, 0.2, 0.8, 0.9]), np.array([False, False, True, True])
    assert band(p, truth, 0.1) == (0.0, 1.0)
    assert conformal_quantile(np.array([0.1, 0.2]), 0.1) == 1.0


@given(
    st.lists(st.tuples(st.booleans(), st.floats(0, 1)), min_size=3, max_size=40).filter(lambda p: len({t for t, _ in p}) == 2),
    st.sampled_from(["f1", "accuracy", "balanced_accuracy"]),
)
def test_no_other_threshold_meets_the_goal_better(sample: list[tuple[bool, float]], name: str) -> None:
    truth, score = np.array([t for t, _ in sample]), np.array([s for _, s in sample])

    def value(threshold: float) -> float:
        called = score >= threshold
        tp, fp, fn, tn = (truth & called).sum(), (~truth & called).sum(), (truth & ~called).sum(), (~truth & ~called).sum()
        if name == "f1":
            return 2 * tp / (2 * tp + fp + fn)
        if name == "accuracy":
            return (tp + tn) / len(truth)
        return (tp / (tp + fn) + tn / (tn + fp)) / 2

    best = value(choose(Goal(name), truth, score))
    assert all(value(t) <= best + 1e-9 for t in score)


def test_a_recall_goal_is_met_with_the_highest_threshold() -> None:
    truth = np.array([True] * 10 + [False] * 10)
    score = np.concatenate([np.linspace(0.1, 1.0, 10), np.linspace(0.0, 0.5, 10)])
    threshold = choose(Goal.parse("recall=0.9"), truth, score)
    assert np.mean(score[truth] >= threshold) == 0.9
    assert 0.1 < threshold <= 0.2


def test_a_precision_that_cannot_be_had_is_an_error() -> None:
    with pytest.raises(GoalError, match=r"no threshold reaches it on these 4 images; the best is 0\.500"):
        choose(Goal.parse("precision=0.9"), np.array([True, False, True, False]), np.ones(4))


@pytest.mark.parametrize("text", ["f2", "recall", "recall=0", "recall=1.5", "precision=x", "f1=0.5", ""])
def test_an_unreadable_goal_says_what_is_expected(text: str) -> None:
    with pytest.raises(GoalError, match="expected one of f1, accuracy"):
        Goal.parse(text)


def test_nothing_to_calibrate_on_leaves_every_answer_uncertain() -> None:
    none = np.zeros(0)
    found = calibrate(none.astype(bool), none, np.array([True, False]), None, goal=Goal("f1"), alpha=0.1)
    assert found.band == (0.0, 1.0)
    assert "every answer is uncertain" in found.details["warnings"][0]
