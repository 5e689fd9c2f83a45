"""Fitting a linear head on features: logistic regression, classes balanced, its strength chosen by cross-validation.

Copies of an image (augmented ones) and its near-duplicates stay in one fold, or cross-validation would reward a head for
knowing them by heart.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from cosmop_common.errors import InvalidInputError
from numpy.typing import NDArray

from cosmop_classifier.calibration import negative_log_likelihood, probabilities
from cosmop_classifier.heads import Array, Features, LinearHead

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]

STRENGTHS = (1e-3, 1e-2, 1e-1)
_FOLDS = 4
_ITERATIONS = 200


class ClassMissingError(InvalidInputError):
    """A class has no images where some are needed."""


@dataclass(frozen=True)
class LinearFit:
    """A fitted head, and how it was chosen."""

    head: LinearHead
    #: scikit-learn's C.
    strength: float
    #: Cross-validated log-likelihood loss by strength.
    losses: dict[str, float]
    #: Logits of the training images, each by a head that did not see it; None where there were too few groups to fold.
    out_of_fold: Floats | None


def fit_linear(pooled: Array, truth: Bools, groups: Sequence[str], *, copies: Sequence[Array] = (), seed: int = 0) -> LinearFit:
    """Fits a head on training images and their augmented copies.

    Args:
        pooled: (n, c), features of the images as they are.
        truth: (n,), whether positive.
        groups: near-duplicate group of each image.
        copies: further features of the same images, each (n, c).

    Raises:
        ClassMissingError: only one class.
    """
    check_classes(truth, "train")
    views = [pooled, *copies]
    fold = _folds(truth, groups, seed)
    if fold is None:
        return LinearFit(fit_logistic(views, truth, STRENGTHS[1]), STRENGTHS[1], {}, None)
    logits = {strength: _cross_logits(views, truth, fold, strength) for strength in STRENGTHS}
    losses = {strength: _balanced_loss(z, truth) for strength, z in logits.items()}
    best = min(losses, key=lambda s: losses[s])
    return LinearFit(fit_logistic(views, truth, best), best, {f"{s:g}": loss for s, loss in losses.items()}, logits[best])


def check_classes(truth: Bools, split: str) -> None:
    """Raises ``ClassMissingError`` unless both classes occur."""
    if not truth.any() or truth.all():
        missing = "positive" if not truth.any() else "negative"
        raise ClassMissingError(f"the {split} split has no {missing} image ({len(truth)} images): label more of that class, or freeze with other shares")


def fit_logistic(views: Sequence[Array], truth: Bools, strength: float, *, unit_length: bool = False) -> LinearHead:
    """One logistic regression on standardised features, classes balanced, the standardisation folded into its weights.

    Args:
        views: each (n, c): the same images in several versions.
        truth: (n,), whether positive.
        strength: scikit-learn's C.
        unit_length: the features are of unit length, and the head shall scale those that it is asked about likewise.
    """
    from sklearn.linear_model import LogisticRegression

    x = np.concatenate(views)
    mean, spread = x.mean(axis=0), x.std(axis=0) + 1e-6
    y = np.tile(truth, len(views))
    # Each copy counts its share, so that more copies do not mean less regularisation.
    weights = np.full(len(y), 1 / len(views))
    model = LogisticRegression(C=strength, class_weight="balanced", max_iter=_ITERATIONS, tol=1e-3)
    model.fit((x - mean) / spread, y, sample_weight=weights)
    weight = (model.coef_[0] / spread).astype(np.float32)
    return LinearHead(weight, float(model.intercept_[0] - mean @ weight), unit_length)


def _folds(truth: Bools, groups: Sequence[str], seed: int) -> NDArray[np.int64] | None:
    """The fold of each image: groups whole, classes spread; None where a class has too few groups for two folds."""
    names, member = np.unique(np.asarray(groups), return_inverse=True)
    positive = np.array([truth[member == g].any() for g in range(len(names))])
    folds = min(_FOLDS, int(positive.sum()), int((~positive).sum()))
    if folds < 2:  # noqa: PLR2004 - one fold is none
        return None
    rng = np.random.default_rng(seed)
    of_group = np.zeros(len(names), np.int64)
    for kind in (positive, ~positive):
        of_group[rng.permutation(np.nonzero(kind)[0])] = np.arange(int(kind.sum())) % folds
    fold = of_group[member]
    usable = all(0 < truth[fold != f].sum() < (fold != f).sum() for f in range(folds))
    return fold if usable else None


def _cross_logits(views: Sequence[Array], truth: Bools, fold: NDArray[np.int64], strength: float) -> Floats:
    logits = np.zeros(len(truth))
    for number in np.unique(fold):
        seen = fold != number
        head = fit_logistic([v[seen] for v in views], truth[seen], strength)
        logits[~seen] = head.score(Features(views[0][~seen]))
    return logits


def _balanced_loss(logits: Floats, truth: Bools) -> float:
    """Mean of the two classes' losses: what the balanced fit minimises."""
    p = probabilities(logits, 1.0)
    return (negative_log_likelihood(p[truth], truth[truth]) + negative_log_likelihood(p[~truth], truth[~truth])) / 2
