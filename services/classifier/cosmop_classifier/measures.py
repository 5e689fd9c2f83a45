"""How good a classifier is on a split: the measures, each with a 95 % interval, and the confusion matrix.

Intervals are percentile bootstraps (Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 13) over
near-duplicate groups rather than images: two copies of one photo are one observation, not two. Where every resample
agrees (no error was made), a bootstrap has nothing to say, and proportions fall back on Wilson's score interval.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from cosmop_common.records import Value
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

RESAMPLES = 2000
_Z = 1.959963984540054
#: Cells of resampled weights held at once.
_CELLS = 4_000_000


def confusion(truth: Bools, predicted: Bools) -> dict[str, int]:
    """``{"tp", "fp", "fn", "tn"}`` of boolean arrays of shape (n,)."""
    return {
        "tp": int(np.sum(truth & predicted)),
        "fp": int(np.sum(~truth & predicted)),
        "fn": int(np.sum(truth & ~predicted)),
        "tn": int(np.sum(~truth & ~predicted)),
    }


def measure(
    truth: Bools, predicted: Bools, score: Floats, *, groups: Sequence[str] | None = None, resamples: int = RESAMPLES, seed: int = 0
) -> dict[str, Value]:
    """Precision, recall, accuracy, F1, AUROC and average precision of the positive class.

    Args:
        truth: shape (n,), whether each image is positive.
        predicted: shape (n,), whether it was called positive.
        score: shape (n,), higher is more positive; ties count half in AUROC.
        groups: the near-duplicate group of each image; None: each is its own.

    Returns:
        By name. A measure that is not defined (precision without positive calls, AUROC with one class) has the value None.
    """
    n = len(truth)
    sample = _Sample.make(truth, predicted, score)
    ones = np.ones((1, n))
    point = {name: float(values[0]) for name, values in sample.evaluate(ones).items()}
    draws = _resample(sample, groups, resamples, seed) if n else {name: np.zeros(0) for name in point}
    counts = sample.counts(ones)
    return {name: _value(point[name], draws[name], counts.get(name), n) for name in point}


def auroc(truth: Bools, score: Floats) -> float | None:
    """Area under the ROC curve, as the Mann-Whitney statistic; None with one class only."""
    return measure(truth, score > np.inf, score, resamples=0)["auroc"].value


def pr_curve(truth: Bools, score: Floats) -> list[tuple[float, float, float]]:
    """(threshold, precision, recall) at each distinct score, highest first: the precision-recall curve."""
    order = np.argsort(-score, kind="stable")
    ordered, hits = score[order], np.cumsum(truth[order])
    last = np.nonzero(np.append(np.diff(ordered) != 0, [True]))[0] if len(score) else np.zeros(0, np.int64)
    positives = max(1, int(truth.sum()))
    return [(float(ordered[i]), float(hits[i] / (i + 1)), float(hits[i] / positives)) for i in last]


def wilson(hits: float, total: float) -> tuple[float, float]:
    """Wilson's score interval of a proportion, 95 %: E. B. Wilson, JASA 22 (1927)."""
    share, z2 = hits / total, _Z**2
    centre = (share + z2 / (2 * total)) / (1 + z2 / total)
    half = _Z / (1 + z2 / total) * np.sqrt(share * (1 - share) / total + z2 / (4 * total**2))
    return float(max(0.0, centre - half)), float(min(1.0, centre + half))


@dataclass(frozen=True)
class _Sample:
    """The split, prepared so that all measures of many weightings come from a few matrix products."""

    truth: Floats
    predicted: Floats
    #: Order of the images by score, ascending, and where each distinct score starts in it.
    order: NDArray[np.int64]
    starts: NDArray[np.int64]

    @classmethod
    def make(cls, truth: Bools, predicted: Bools, score: Floats) -> _Sample:
        order = np.argsort(score, kind="stable")
        ordered = score[order]
        starts = np.nonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))[0] if len(score) else np.zeros(0, np.int64)
        return cls(truth.astype(np.float64), predicted.astype(np.float64), order, starts)

    def counts(self, weights: Floats) -> dict[str, tuple[float, float]]:
        """Hits and total of each measure that is a proportion, of the first weighting."""
        w = weights[0]
        hits = float(w @ (self.truth * self.predicted))
        agree = float(w @ (self.truth == self.predicted))
        return {"precision": (hits, float(w @ self.predicted)), "recall": (hits, float(w @ self.truth)), "accuracy": (agree, float(w.sum()))}

    def evaluate(self, weights: Floats) -> dict[str, Floats]:
        """Each measure under each row of ``weights`` (b, n); NaN where it is not defined."""
        hits = weights @ (self.truth * self.predicted)
        called, positives, total = weights @ self.predicted, weights @ self.truth, weights.sum(axis=1)
        agree = weights @ (self.truth == self.predicted).astype(np.float64)
        with np.errstate(divide="ignore", invalid="ignore"):
            result = {"precision": hits / called, "recall": hits / positives, "accuracy": agree / total, "f1": 2 * hits / (called + positives)}
            return result | self._ranked(weights, positives, total - positives)

    def _ranked(self, weights: Floats, positives: Floats, negatives: Floats) -> dict[str, Floats]:
        if not len(self.order):
            return {"auroc": np.full(len(weights), np.nan), "average_precision": np.full(len(weights), np.nan)}
        by_score = weights[:, self.order]
        pos = np.add.reduceat(by_score * self.truth[self.order], self.starts, axis=1)
        neg = np.add.reduceat(by_score * (1 - self.truth[self.order]), self.starts, axis=1)
        below = np.cumsum(neg, axis=1) - neg
        hits_above = np.cumsum(pos[:, ::-1], axis=1)[:, ::-1]
        all_above = np.cumsum((pos + neg)[:, ::-1], axis=1)[:, ::-1]
        precision = hits_above / np.maximum(all_above, 1e-12)
        return {
            "auroc": (pos * (below + 0.5 * neg)).sum(axis=1) / (positives * negatives),
            "average_precision": (pos * precision).sum(axis=1) / positives,
        }


def resampled(n: int, groups: Sequence[str] | None, resamples: int, seed: int) -> Iterator[Floats]:
    """Weights of n images under bootstrap resamples of their groups, in blocks (b, n) that fit into memory."""
    _, member = np.unique(np.asarray(groups), return_inverse=True) if groups is not None else (None, np.arange(n))
    count = int(member.max()) + 1
    rng = np.random.default_rng(seed)
    block = max(1, _CELLS // n)
    for start in range(0, resamples, block):
        size = min(block, resamples - start)
        yield rng.multinomial(count, np.full(count, 1 / count), size=size).astype(np.float64)[:, member]


def bounds(draws: Floats) -> tuple[float, float] | None:
    """The middle 95 % of the draws that are defined; None without any."""
    defined = draws[np.isfinite(draws)]
    if not len(defined):
        return None
    low, high = (float(q) for q in np.quantile(defined, [0.025, 0.975]))
    return low, high


def _resample(sample: _Sample, groups: Sequence[str] | None, resamples: int, seed: int) -> dict[str, Floats]:
    found = [sample.evaluate(weights) for weights in resampled(len(sample.truth), groups, resamples, seed)]
    names = ("precision", "recall", "accuracy", "f1", "auroc", "average_precision")
    return {name: np.concatenate([f[name] for f in found]) if found else np.zeros(0) for name in names}


def _value(point: float, draws: Floats, counts: tuple[float, float] | None, n: int) -> Value:
    if not np.isfinite(point):
        return Value(value=None, n=n)
    interval = bounds(draws)
    if interval is None:
        return Value(value=point, n=n)
    if interval[0] == interval[1] and counts is not None:
        return Value(value=point, interval=wilson(*counts), n=n, method="wilson")
    return Value(value=point, interval=interval, n=n, method="bootstrap")
