"""A fitted model on a split: measures, confusion matrix, curves, slices, worst mistakes. The same for every kind of model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from cosmop_common.datasets import ManifestRow
from cosmop_common.model_evaluation import Mistake, Slice, SplitReport
from cosmop_common.records import Prediction, Value
from numpy.typing import NDArray

from cosmop_classifier.curves import pr_points, reliability_of
from cosmop_classifier.measures import confusion, measure
from cosmop_classifier.slices import slices
from cosmop_classifier.traits import Traits

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

#: Mistakes of each kind that are named.
MISTAKES = 100
_SLICE_RESAMPLES = 500


@dataclass(frozen=True)
class SplitEvaluation:
    """What came of one split."""

    report: SplitReport
    predictions: list[Prediction]

    @property
    def metrics(self) -> dict[str, Value]:
        """The headline measures."""
        return self.report.metrics

    @property
    def confusion(self) -> dict[str, int]:
        """``{"tp", "fp", "fn", "tn"}``."""
        return self.report.confusion

    @property
    def warnings(self) -> list[str]:
        """What could not be measured, and why."""
        return self.report.warnings


def evaluate(
    rows: Sequence[ManifestRow],
    positive: str,
    score: Floats,
    threshold: float,
    *,
    probabilities: bool = False,
    traits: Mapping[str, Traits] | None = None,
    seed: int = 0,
) -> SplitEvaluation:
    """Compares scores with labels.

    Args:
        rows: the split's images, n of them.
        positive: the positive class; all others are negative.
        score: (n,).
        probabilities: the scores are probabilities, so that a reliability diagram means something.
        traits: what is known of the images, for slices.
    """
    truth = np.array([r.label == positive for r in rows], dtype=bool)
    called, groups = score >= threshold, [r.group for r in rows]
    warnings = []
    if len(rows) and (truth.all() or not truth.any()):
        split, missing = rows[0].split, "negative" if truth.all() else "positive"
        warnings.append(f"the {split} split has no {missing} image: measures that need both classes are not defined")
    report = SplitReport(
        images=len(rows),
        positives=int(truth.sum()),
        groups=len(set(groups)),
        metrics=measure(truth, called, score, groups=groups, seed=seed),
        confusion=confusion(truth, called),
        pr_curve=pr_points(truth, score, groups=groups, seed=seed),
        reliability=reliability_of(truth, score, groups=groups, seed=seed) if probabilities else None,
        slices=[_slice(key, rows, places, truth, called, score, seed) for key, places in sorted(slices(rows, traits or {}).items())],
        false_positives=_mistakes(rows, ~truth & called, score, threshold),
        false_negatives=_mistakes(rows, truth & ~called, score, threshold),
        warnings=warnings,
    )
    predictions = [
        Prediction(image=r.image, split=r.split, label=r.label, positive=bool(c), score=float(s)) for r, c, s in zip(rows, called, score, strict=True)
    ]
    return SplitEvaluation(report, predictions)


def groups_parted(rows: Iterable[ManifestRow]) -> int:
    """Near-duplicate groups that have images in more than one split: what a safe split has none of."""
    splits: dict[str, set[str]] = {}
    for row in rows:
        splits.setdefault(row.group, set()).add(row.split)
    return sum(len(found) > 1 for found in splits.values())


def _slice(key: tuple[str, str], rows: Sequence[ManifestRow], places: list[int], truth: Bools, called: Bools, score: Floats, seed: int) -> Slice:
    t, c, s = truth[places], called[places], score[places]
    metrics = measure(t, c, s, groups=[rows[i].group for i in places], resamples=_SLICE_RESAMPLES, seed=seed)
    return Slice(by=key[0], name=key[1], images=len(places), positives=int(t.sum()), metrics=metrics, confusion=confusion(t, c))


def _mistakes(rows: Sequence[ManifestRow], wrong: Bools, score: Floats, threshold: float) -> list[Mistake]:
    margin = np.abs(score - threshold)
    worst = sorted(map(int, np.nonzero(wrong)[0]), key=lambda i: (-margin[i], rows[i].image))[:MISTAKES]
    return [Mistake(image=rows[i].image, label=rows[i].label, score=float(score[i]), margin=float(margin[i])) for i in worst]
