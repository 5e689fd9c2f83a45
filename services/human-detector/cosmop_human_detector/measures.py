"""How good a filter is: rates with intervals, and the area under the ROC curve."""

from __future__ import annotations

import math

import numpy as np
from cosmop_common.records import Value
from numpy.typing import NDArray
from scipy.stats import rankdata

_Z95 = 1.959963984540054


def wilson(events: int, n: int) -> Value:
    """A rate with its 95 % interval (Wilson, 1927)."""
    if n == 0:
        return Value(value=None, n=0)
    rate, z2 = events / n, _Z95**2
    centre = (rate + z2 / (2 * n)) / (1 + z2 / n)
    half = _Z95 / (1 + z2 / n) * math.sqrt(rate * (1 - rate) / n + z2 / (4 * n * n))
    return Value(value=rate, interval=(max(0.0, centre - half), min(1.0, centre + half)), n=n, method="wilson")


def auroc(scores: NDArray[np.float64], people: NDArray[np.bool_]) -> Value:
    """The chance that an image with people scores above one without (Mann-Whitney; ties count half).

    The interval is Hanley and McNeil's (Radiology, 1982, equation 2).
    """
    p, q = int(people.sum()), int((~people).sum())
    if p == 0 or q == 0:
        return Value(value=None, n=p + q)
    area = float((rankdata(scores)[people].sum() - p * (p + 1) / 2) / (p * q))
    q1, q2 = area / (2 - area), 2 * area**2 / (1 + area)
    variance = (area * (1 - area) + (p - 1) * (q1 - area**2) + (q - 1) * (q2 - area**2)) / (p * q)
    half = _Z95 * math.sqrt(max(0.0, variance))
    return Value(value=area, interval=(max(0.0, area - half), min(1.0, area + half)), n=p + q, method="hanley-mcneil")


def confusion(scores: NDArray[np.float64], people: NDArray[np.bool_], threshold: float) -> dict[str, int]:
    """Counts of right and wrong words; "positive" is "people"."""
    said = scores >= threshold
    return {
        "tp": int((said & people).sum()),
        "fp": int((said & ~people).sum()),
        "fn": int((~said & people).sum()),
        "tn": int((~said & ~people).sum()),
    }


def measure(scores: NDArray[np.float64], people: NDArray[np.bool_], threshold: float) -> dict[str, Value]:
    """Accuracy, precision, recall, specificity, balanced accuracy and AUROC at a threshold."""
    c = confusion(scores, people, threshold)
    recall, specificity = wilson(c["tp"], c["tp"] + c["fn"]), wilson(c["tn"], c["tn"] + c["fp"])
    rates = [rate.value for rate in (recall, specificity) if rate.value is not None]
    return {
        "accuracy": wilson(c["tp"] + c["tn"], len(scores)),
        "balanced_accuracy": Value(value=float(np.mean(rates)) if rates else None, n=len(scores)),
        "precision": wilson(c["tp"], c["tp"] + c["fp"]),
        "recall": recall,
        "specificity": specificity,
        "auroc": auroc(scores, people),
    }
