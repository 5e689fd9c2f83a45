"""Training a head with an honest threshold: held-out scores choose it, and the card says what was measured. Needs torch.

Held-out scores come from folds that never part near-duplicates. Choosing the threshold on scores of heads that were fitted without the
scored image's source was tried and is worse: such heads see one kind of people fewer than the final one, their scores of it are too
low, and the threshold that follows lets everything through (docs/decisions.md).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from cosmop_common.records import Value
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

from cosmop_human_detector.errors import TrainingDataError
from cosmop_human_detector.features import Examples
from cosmop_human_detector.fitting import fit
from cosmop_human_detector.heads import Head, HeadShape, probability, soft_maximum
from cosmop_human_detector.measures import measure
from cosmop_human_detector.thresholds import Threshold, choose_threshold

_FOLDS = 5
#: Cosine of two images' mean features above which they count as near-duplicates.
_SAME = 0.97
_MIN_PER_CLASS = 10


@dataclass(frozen=True)
class Trained:
    """A head with its operating point and what was measured on held-out images."""

    head: Head
    threshold: Threshold
    #: At the threshold, on the held-out scores that chose it.
    held_out: dict[str, Value]


def train(examples: Examples, shape: HeadShape, miss_rate: float, on_fold: Callable[[], None] = lambda: None, *, promise: bool = False) -> Trained:
    """Fits a head on all examples and chooses its threshold on held-out scores.

    Args:
        miss_rate: the largest share of people that the threshold may miss.
        on_fold: is called after each fit (once a fold, and once more); may raise to stop.
        promise: see ``choose_threshold``.

    Raises:
        TrainingDataError: too few images.
    """
    scores = held_out_scores(examples, shape, on_fold)
    threshold = choose_threshold(scores, examples.people, miss_rate, promise=promise)
    head = fit(examples, shape)
    on_fold()
    return Trained(head, threshold, measure(scores, examples.people, threshold.value))


def held_out_scores(examples: Examples, shape: HeadShape, on_fold: Callable[[], None] = lambda: None) -> NDArray[np.float64]:
    """For each example the score of a head that was not fitted on its fold."""
    scores = np.zeros(len(examples))
    assigned = folds(examples)
    for fold in np.unique(assigned):
        out = assigned == fold
        scores[out] = score(fit(examples.take(~out), shape), examples.windows[out])
        on_fold()
    return scores


def score(head: Head, windows: NDArray[np.float32]) -> NDArray[np.float64]:
    """Scores of images given as window features (N x windows x C)."""
    return probability(soft_maximum(windows @ head.weight + head.bias, head.shape.tau))


def folds(examples: Examples) -> NDArray[np.int64]:
    """The fold of each example: of each class the groups of near-duplicates are dealt out in the order of a hash.

    Raises:
        TrainingDataError: a class has too few images to hold any out.
    """
    groups = near_duplicates(examples)
    assigned = np.zeros(len(examples), np.int64)
    for kind, word in ((True, "human"), (False, "no_human")):
        members = np.flatnonzero(examples.people == kind)
        if len(members) < _MIN_PER_CLASS:
            raise TrainingDataError(f"only {len(members)} images are labelled {word}: label at least {_MIN_PER_CLASS} of each kind")
        names: dict[int, str] = {}
        for i in members:
            names[groups[i]] = min(names.get(groups[i], examples.ids[i]), examples.ids[i])
        order = {group: place for place, group in enumerate(sorted(names, key=lambda g: hashlib.sha256(names[g].encode()).digest()))}
        assigned[members] = [order[groups[i]] % _FOLDS for i in members]
    return assigned


def near_duplicates(examples: Examples) -> NDArray[np.int64]:
    """The group of each example: examples whose mean features point the same way are never parted between folds."""
    means = examples.windows.mean(1)
    means /= np.linalg.norm(means, axis=1, keepdims=True) + 1e-12
    near = means @ means.T > _SAME
    labels: NDArray[np.int64] = connected_components(csr_array(near), directed=False)[1].astype(np.int64)
    return labels
