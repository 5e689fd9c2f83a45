"""One model of an experiment: a classifier, a condition, a seed; from features that were computed once. Pure.

Fitting is that of a training job (``binary.fit_linear``, cosine kNN, the paper's SVM). Thresholds never see a test image: the binary one is
chosen on the real validation split, the one-class ones on training images. What differs between seeds: which near-duplicate groups of the
train split are trained on, which synthetic images are taken, and the folds of cross-validation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from cosmop_common.experiment_records import CellRecord
from numpy.typing import NDArray

from cosmop_classifier.binary import ClassMissingError, fit_linear
from cosmop_classifier.experiment_plan import BINARY, ONE_CLASS, Condition, ExperimentOptions, wanted
from cosmop_classifier.heads import Array, Features, Head, KnnHead, unit
from cosmop_classifier.oneclass import MIN_IMAGES, TooFewImagesError, cut
from cosmop_classifier.oneclass_paper import fit_svm
from cosmop_classifier.thresholds import Goal, choose

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]
Indices = NDArray[np.int64]
Maps = NDArray[np.float16]
_CHUNK = 1024


@dataclass(frozen=True)
class Part:
    """A set of images as features: n of them.

    Attributes:
        pooled: (n, c).
        truth: (n,), whether positive.
        groups: near-duplicate group of each.
        maps: (n, c, h, w); only for the paper's one-class model.
    """

    pooled: Array
    truth: Bools
    groups: list[str]
    maps: Maps | None = None


@dataclass(frozen=True)
class Material:
    """All that models are made of and measured on."""

    train: Part
    val: Part
    test: Part
    synthetic: Part
    #: Augmented copies of the training images, copy by copy, as ``train.pooled``. No maps of them: they would be the largest of all, and
    #: the paper's one-class model knows no augmentation either.
    copies: list[Array]


@dataclass(frozen=True)
class Draw:
    """What one seed trains on: indices of training images, and the synthetic images in the order in which they are taken."""

    seed: int
    train: Indices
    synthetic: Indices


def draw(truth: Bools, groups: Sequence[str], synthetic: int, share: float, seed: int, number: int) -> Draw:
    """The draw of repetition ``number``: a share of the near-duplicate groups of each class, and an order of the synthetic images.

    Raises:
        ClassMissingError: the train split lacks a class.
    """
    rng = np.random.default_rng([seed, number])
    names, member = np.unique(np.asarray(groups), return_inverse=True)
    positive = np.array([truth[member == g].any() for g in range(len(names))])
    kept = np.zeros(len(names), dtype=bool)
    for kind, name in ((positive, "positive"), (~positive, "negative")):
        of_kind = np.nonzero(kind)[0]
        if not len(of_kind):
            raise ClassMissingError(f"the train split has no {name} image ({len(truth)} images): label more of that class, or freeze with other shares")
        # A share of very few would leave too few to learn from.
        kept[rng.permutation(of_kind)[: max(MIN_IMAGES, round(share * len(of_kind)))]] = True
    return Draw(number, np.nonzero(kept[member])[0], rng.permutation(synthetic))


def taken(condition: Condition, chosen: Draw, positives: int, called: Sequence[bool] | None) -> Indices:
    """The synthetic images that a condition adds.

    Args:
        positives: real positive images that this seed trains on.
        called: whether each synthetic image is called positive by this seed's model of real images; only for filtered conditions.
    """
    if condition.ratio is None:
        return np.zeros(0, np.int64)
    pool = chosen.synthetic
    if condition.filtered:
        assert called is not None
        pool = pool[np.asarray(called, dtype=bool)[pool]]
    return pool[: wanted(condition.ratio, positives)]


def fit_cell(classifier: str, condition: Condition, material: Material, chosen: Draw, options: ExperimentOptions, called: Sequence[bool] | None) -> CellRecord:
    """Trains one model and asks it about the test images (and, trained on real images or on them and their copies, about the synthetic ones).

    Raises:
        ClassMissingError: a class is missing.
        TooFewImagesError: too few positive images for a one-class model.
    """
    positives = int(material.train.truth[chosen.train].sum())
    extra = taken(condition, chosen, positives, called)
    real = chosen.train if condition.real else chosen.train[~material.train.truth[chosen.train]]
    fit = _fit_binary if classifier == BINARY else _fit_one_class
    head, threshold, images = fit(classifier, condition, material, chosen, real, extra, options)
    scores = head.score(_features(material.test))
    judged = head.score(_features(material.synthetic)) if condition.real and condition.ratio is None else None
    return CellRecord(
        cell=cell_name(classifier, condition, chosen.seed),
        images=images,
        threshold=threshold,
        scores=[float(s) for s in scores],
        synthetic_called=None if judged is None else [bool(j) for j in judged >= threshold],
        synthetic_between=None if judged is None else between(judged, scores, material.test.truth),
    )


def between(synthetic: Floats, test: Floats, truth: Bools) -> tuple[float, float] | None:
    """Where the median synthetic image lies among the test images: it needs no threshold, and no scale of scores.

    Args:
        synthetic: scores of synthetic images.
        test: (n,), scores of test images by the same model.
        truth: (n,), whether each test image is positive.

    Returns:
        The share of negative ones below it, and of positive ones above it; None where a class is missing. Both near 1: it lies in the gap
        between the classes, and where the threshold falls within the gap decides what it is called.
    """
    if not len(synthetic) or truth.all() or not truth.any():
        return None
    middle = float(np.median(synthetic))
    return float((test[~truth] < middle).mean()), float((test[truth] > middle).mean())


def cell_name(classifier: str, condition: Condition, seed: int) -> str:
    """``binary-real-0``."""
    return f"{classifier}-{condition.name}-{seed}"


def _fit_binary(
    _: str, condition: Condition, material: Material, chosen: Draw, real: Indices, extra: Indices, options: ExperimentOptions
) -> tuple[Head, float, dict[str, int]]:
    train, synthetic = material.train, material.synthetic
    pooled = np.concatenate([train.pooled[real], synthetic.pooled[extra]])
    truth = np.concatenate([train.truth[real], np.ones(len(extra), dtype=bool)])
    groups = [train.groups[i] for i in real] + [f"synthetic {i}" for i in extra]
    copies = [copy[real] for copy in material.copies] if condition.copies else []
    fit = fit_linear(pooled, truth, groups, copies=copies, seed=chosen.seed)
    goal, val = Goal.parse(options.goal), material.val
    if val.truth.any() and not val.truth.all():
        threshold = choose(goal, val.truth, fit.head.score(_features(val)))
    else:
        # Too few images for a validation split: training images, each by a head that did not see it.
        threshold = choose(goal, truth, fit.out_of_fold) if fit.out_of_fold is not None else 0.0
    positive = int(train.truth[real].sum())
    return fit.head, threshold, _counts(positive, len(real) - positive, len(copies) * len(real), len(extra))


def _fit_one_class(
    classifier: str, condition: Condition, material: Material, _: Draw, real: Indices, extra: Indices, options: ExperimentOptions
) -> tuple[Head, float, dict[str, int]]:
    train, synthetic = material.train, material.synthetic
    mine = real[train.truth[real]]
    count = len(mine) + len(extra)
    if count < MIN_IMAGES:
        raise TooFewImagesError(f"{count} images to learn the positive class from; a one-class model needs at least {MIN_IMAGES}: label more")
    copied = len(material.copies) if condition.copies and classifier == ONE_CLASS else 0
    images = _counts(len(mine), 0, copied * len(mine), len(extra))
    if classifier == ONE_CLASS:
        copies = [copy[mine] for copy in material.copies[:copied]]
        bank = unit(np.concatenate([train.pooled[mine], *copies, synthetic.pooled[extra]]))
        owner = [train.groups[i] for i in mine] * (1 + copied) + [f"synthetic {i}" for i in extra]
        head = KnnHead(bank, min(options.neighbours, len(bank) - 1))
        # Real images say where the boundary lies, wherever there are any: what will be asked about is real.
        asked = len(mine) or len(extra)
        return head, cut(_against_others(head, owner, asked), options.keep), images
    assert train.maps is not None
    assert synthetic.maps is not None
    fit = fit_svm(np.concatenate([train.maps[mine], synthetic.maps[extra]]))
    return fit.head, fit.threshold, images


def _against_others(head: KnnHead, owner: Sequence[str], asked: int) -> Floats:
    """Scores of the bank's first images against the bank without their own near-duplicates and copies."""
    _, member = np.unique(np.asarray(owner), return_inverse=True)
    scores = []
    for start in range(0, asked, _CHUNK):
        rows = np.arange(start, min(start + _CHUNK, asked))
        alike = np.asarray(head.bank[rows] @ head.bank.T, dtype=np.float64)
        alike[member[rows][:, None] == member[None]] = -np.inf
        scores.append(np.sort(alike, axis=1)[:, -head.neighbours :].mean(axis=1))
    found = np.concatenate(scores)
    # Fewer than k images of other groups: nothing to compare with.
    return found[np.isfinite(found)] if np.isfinite(found).any() else np.full(1, -1.0)


def _counts(positive: int, negative: int, augmented: int, synthetic: int) -> dict[str, int]:
    return {"positive": positive, "negative": negative, "augmented": augmented, "synthetic": synthetic}


def _features(part: Part) -> Features:
    return Features(part.pooled, None if part.maps is None else part.maps.astype(np.float32))
