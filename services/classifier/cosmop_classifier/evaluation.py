"""A fitted model on a split: measures, confusion matrix, predictions. The same for every kind of model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from cosmop_common.datasets import ManifestRow
from cosmop_common.records import Prediction, Value
from numpy.typing import NDArray

from cosmop_classifier.measures import confusion, measure, pr_curve

_CURVE_POINTS = 200


@dataclass(frozen=True)
class SplitEvaluation:
    """What came of one split."""

    metrics: dict[str, Value]
    confusion: dict[str, int]
    #: (threshold, precision, recall), at most 200 points.
    pr_curve: list[tuple[float, float, float]]
    predictions: list[Prediction]
    warnings: list[str] = field(default_factory=list)


def evaluate(rows: Sequence[ManifestRow], positive: str, score: NDArray[np.float64], threshold: float, *, seed: int = 0) -> SplitEvaluation:
    """Compares scores with labels.

    Args:
        rows: the split's images, n of them.
        positive: the positive class; all others are negative.
        score: (n,).
    """
    truth = np.array([r.label == positive for r in rows], dtype=bool)
    called = score >= threshold
    warnings = []
    if len(rows) and (truth.all() or not truth.any()):
        split, missing = rows[0].split, "negative" if truth.all() else "positive"
        warnings.append(f"the {split} split has no {missing} image: measures that need both classes are not defined")
    curve = pr_curve(truth, score)
    step = max(1, -(-len(curve) // _CURVE_POINTS))
    return SplitEvaluation(
        metrics=measure(truth, called, score, groups=[r.group for r in rows], seed=seed),
        confusion=confusion(truth, called),
        pr_curve=curve[::step],
        predictions=[
            Prediction(image=r.image, split=r.split, label=r.label, positive=bool(c), score=float(s)) for r, c, s in zip(rows, called, score, strict=True)
        ],
        warnings=warnings,
    )
