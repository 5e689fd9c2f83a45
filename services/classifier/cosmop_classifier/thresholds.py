"""Where to cut a score: a stated goal on held-out images.

========================  =====================================================================
``f1``                    the largest F1
``accuracy``              the largest accuracy
``balanced_accuracy``     the largest mean of recall and specificity
``recall=0.95``           the highest threshold that still finds this share of the positives
``precision=0.9``         the lowest threshold whose positive calls are right this often
========================  =====================================================================
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from cosmop_common.errors import InvalidInputError
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

_PLAIN = ("f1", "accuracy", "balanced_accuracy")
_BOUNDED = ("recall", "precision")


class GoalError(InvalidInputError):
    """A goal that cannot be read, or that these images cannot meet."""


@dataclass(frozen=True)
class Goal:
    """What the threshold is chosen for."""

    name: str
    #: The bound of ``recall`` and ``precision``; 0 for the others.
    bound: float = 0.0

    @classmethod
    def parse(cls, text: str) -> Goal:
        """Reads ``f1`` or ``recall=0.95``. Raises ``GoalError``."""
        name, equals, number = text.partition("=")
        try:
            if name in _PLAIN and not equals:
                return cls(name)
            if name in _BOUNDED and 0 < float(number) <= 1:
                return cls(name, float(number))
        except ValueError:
            pass
        raise GoalError(f"goal {text!r}: expected one of {', '.join(_PLAIN)}, recall=0.95 or precision=0.9 (a share in (0, 1])")

    def __str__(self) -> str:
        return f"{self.name}={self.bound:g}" if self.name in _BOUNDED else self.name


def choose(goal: Goal, truth: Bools, score: Floats) -> float:
    """The threshold (a score at or above it is positive) that meets the goal best.

    Candidates lie half-way between neighbouring distinct scores, so that the cut is as far from the images it was chosen
    on as it can be. Among equally good ones the middle one is taken, for the same reason.

    Raises:
        GoalError: no threshold reaches the asked-for precision, or there is no positive image to find.
    """
    if not truth.any():
        raise GoalError(f"goal {goal}: there is no positive image to choose a threshold on")
    levels = np.unique(score)
    middles = (levels[1:] + levels[:-1]) / 2
    span = float(levels[-1] - levels[0]) or 1.0
    cuts = np.concatenate([[levels[0] - span * 1e-3], middles])
    # Counts of images at or above each cut, from the sorted scores of each class.
    positives, negatives = np.sort(score[truth]), np.sort(score[~truth])
    tp = len(positives) - np.searchsorted(positives, cuts)
    fp = len(negatives) - np.searchsorted(negatives, cuts)
    fn, tn = len(positives) - tp, len(negatives) - fp
    recall, precision = tp / (tp + fn), tp / np.maximum(tp + fp, 1)
    if goal.name == "recall":
        return float(cuts[np.nonzero(recall >= goal.bound)[0].max()])
    if goal.name == "precision":
        good = np.nonzero((precision >= goal.bound) & (tp > 0))[0]
        if not len(good):
            raise GoalError(f"goal {goal}: no threshold reaches it on these {len(truth)} images; the best is {precision.max():.3f}")
        return float(cuts[good.min()])
    value = {
        "f1": 2 * tp / (2 * tp + fp + fn),
        "accuracy": (tp + tn) / len(truth),
        "balanced_accuracy": (recall + tn / np.maximum(tn + fp, 1)) / 2,
    }[goal.name]
    best = np.nonzero(np.isclose(value, value.max()))[0]
    return float(cuts[best[len(best) // 2]])
