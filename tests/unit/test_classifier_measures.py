"""Measures against scikit-learn and closed forms; intervals against what they promise."""

from __future__ import annotations

import numpy as np
import pytest
from cosmop_classifier.measures import auroc, confusion, measure, pr_curve, wilson
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics

pairs = st.lists(st.tuples(st.booleans(), st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0])), min_size=2, max_size=60).filter(
    lambda p: len({truth for truth, _ in p}) == 2
)


@given(pairs)
def test_every_measure_is_scikit_learns(sample: list[tuple[bool, float]]) -> None:
    truth, score = np.array([t for t, _ in sample]), np.array([s for _, s in sample])
    called = score >= 0.5
    found = {name: value.value for name, value in measure(truth, called, score, resamples=0).items()}
    assert found["accuracy"] == pytest.approx(metrics.accuracy_score(truth, called))
    assert found["recall"] == pytest.approx(metrics.recall_score(truth, called))
    assert found["f1"] == pytest.approx(metrics.f1_score(truth, called, zero_division=0))
    assert found["auroc"] == pytest.approx(metrics.roc_auc_score(truth, score))
    assert found["average_precision"] == pytest.approx(metrics.average_precision_score(truth, score))
    if called.any():
        assert found["precision"] == pytest.approx(metrics.precision_score(truth, called))
    else:
        assert found["precision"] is None
    tn, fp, fn, tp = metrics.confusion_matrix(truth, called).ravel()
    assert confusion(truth, called) == {"tp": tp, "fp": fp, "fn": fn, "tn": tn}


@given(pairs)
def test_the_pr_curve_is_scikit_learns(sample: list[tuple[bool, float]]) -> None:
    truth, score = np.array([t for t, _ in sample]), np.array([s for _, s in sample])
    precision, recall, thresholds = metrics.precision_recall_curve(truth, score)
    expected = list(zip(thresholds[::-1], precision[:-1][::-1], recall[:-1][::-1], strict=True))
    np.testing.assert_allclose(pr_curve(truth, score), expected)


def test_one_class_alone_has_no_auroc() -> None:
    truth = np.ones(5, dtype=bool)
    assert auroc(truth, np.arange(5.0)) is None
    values = measure(truth, truth, np.arange(5.0))
    assert values["auroc"].value is None
    assert values["recall"].value == 1.0


def test_no_images_have_no_measures() -> None:
    values = measure(np.zeros(0, bool), np.zeros(0, bool), np.zeros(0))
    assert all(v.value is None and v.interval is None for v in values.values())


def test_an_interval_holds_the_truth_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(1)
    hits = 0
    for draw in range(200):
        truth = np.ones(120, dtype=bool)
        low, high = measure(truth, rng.random(120) < 0.8, np.zeros(120), resamples=400, seed=draw)["recall"].interval
        hits += low <= 0.8 <= high
    assert 178 <= hits <= 200


def test_near_duplicates_do_not_narrow_an_interval() -> None:
    rng = np.random.default_rng(2)
    truth, called = np.ones(60, dtype=bool), rng.random(60) < 0.7
    once = measure(truth, called, np.zeros(60))["recall"].interval
    tenfold = np.tile(called, 10)
    groups = [str(i % 60) for i in range(600)]
    grouped = measure(np.ones(600, bool), tenfold, np.zeros(600), groups=groups)["recall"].interval
    alone = measure(np.ones(600, bool), tenfold, np.zeros(600))["recall"].interval
    assert grouped[1] - grouped[0] == pytest.approx(once[1] - once[0], rel=0.2)
    assert alone[1] - alone[0] < 0.5 * (once[1] - once[0])


def test_without_an_error_the_interval_is_wilsons() -> None:
    truth = np.array([True] * 20 + [False] * 20)
    value = measure(truth, truth, truth.astype(float))["accuracy"]
    assert value.method == "wilson"
    assert value.interval == pytest.approx((40 / (40 + 1.959963984540054**2), 1.0))


def test_wilson_is_the_closed_form() -> None:
    # Both ends solve (p - 0.81)^2 = z^2 p (1 - p) / 263, the paper's figures for size.
    for end in wilson(213, 263):
        assert (end - 213 / 263) ** 2 == pytest.approx(1.959963984540054**2 * end * (1 - end) / 263)


def test_the_same_seed_gives_the_same_interval() -> None:
    rng = np.random.default_rng(3)
    truth, score = rng.random(50) < 0.5, rng.random(50)
    assert measure(truth, score > 0.5, score, seed=4) == measure(truth, score > 0.5, score, seed=4)
