"""Curves of an evaluation with their bootstrap intervals: precision against recall, and the reliability diagram.

Both resample near-duplicate groups as ``measures`` does, so that a curve and the figure beside it say the same.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from cosmop_common.model_evaluation import CalibrationBin, CurvePoint, Reliability
from cosmop_common.records import Value
from numpy.typing import NDArray

from cosmop_classifier.calibration import negative_log_likelihood
from cosmop_classifier.measures import bounds, pr_curve, resampled, wilson

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

#: Points of a curve that are kept.
POINTS = 200
_RESAMPLES = 500
_BINS = 10


def pr_points(truth: Bools, score: Floats, *, groups: Sequence[str] | None = None, resamples: int = _RESAMPLES, seed: int = 0) -> list[CurvePoint]:
    """The precision-recall curve, thinned evenly to ``POINTS``, both ends kept.

    Args:
        truth: (n,), whether each image is positive; without a positive one there is no curve.
        score: (n,).
        groups: near-duplicate group of each image; None: each is its own.
    """
    curve = pr_curve(truth, score)
    if not truth.any():
        return []
    chosen = sorted({round(i) for i in np.linspace(0, len(curve) - 1, min(POINTS, len(curve)))})
    levels = np.array([curve[i][0] for i in chosen])
    order = np.argsort(-score, kind="stable")
    last = np.searchsorted(-score[order], -levels, side="right") - 1
    precisions, recalls = [], []
    for weights in resampled(len(truth), groups, resamples, seed):
        called = np.cumsum(weights[:, order], axis=1)[:, last]
        hits = np.cumsum((weights * truth)[:, order], axis=1)[:, last]
        with np.errstate(divide="ignore", invalid="ignore"):
            precisions.append(hits / called)
            recalls.append(hits / (weights @ truth)[:, None])
    precision, recall = _columns(precisions, len(chosen)), _columns(recalls, len(chosen))
    return [
        CurvePoint(
            threshold=curve[i][0], precision=curve[i][1], recall=curve[i][2], precision_interval=bounds(precision[:, j]), recall_interval=bounds(recall[:, j])
        )
        for j, i in enumerate(chosen)
    ]


def reliability_of(truth: Bools, probability: Floats, *, groups: Sequence[str] | None = None, resamples: int = _RESAMPLES, seed: int = 0) -> Reliability | None:
    """The reliability diagram over ten equal-width bins; None without images."""
    n = len(truth)
    if not n:
        return None
    place = np.minimum((probability * _BINS).astype(int), _BINS - 1)
    member = np.eye(_BINS)[place]
    errors = (probability - truth) ** 2

    def measures(weights: Floats) -> tuple[Floats, Floats]:
        gap = np.abs((weights * (probability - truth)) @ member)
        return gap.sum(axis=1) / weights.sum(axis=1), weights @ errors / weights.sum(axis=1)

    draws = [measures(weights) for weights in resampled(n, groups, resamples, seed)]
    point = measures(np.ones((1, n)))
    error, brier = (
        Value(value=float(point[i][0]), interval=bounds(np.concatenate([d[i] for d in draws])) if draws else None, n=n, method="bootstrap") for i in (0, 1)
    )
    bins = [_bin(number, probability[place == number], truth[place == number]) for number in np.unique(place)]
    return Reliability(bins=bins, expected_calibration_error=error, brier=brier, negative_log_likelihood=negative_log_likelihood(probability, truth))


def _bin(number: int, probability: Floats, truth: Bools) -> CalibrationBin:
    images = len(truth)
    share = Value(value=float(truth.mean()), interval=wilson(float(truth.sum()), images), n=images, method="wilson")
    return CalibrationBin(low=number / _BINS, high=(number + 1) / _BINS, probability=float(probability.mean()), positive=share, images=images)


def _columns(blocks: list[Floats], width: int) -> Floats:
    return np.concatenate(blocks) if blocks else np.zeros((0, width))
