"""Fitting one-class heads on features of positive training images only, and choosing their thresholds without a negative.

``knn`` is the default: pooled features beat the flattened feature map by far (docs/decisions.md has the figures). The paper's
recipe is in ``oneclass_paper``, patches are in ``oneclass_patches``. All work with 100,000 images: thresholds are chosen on a
sample, covariances are summed block by block, and a large bank is divided into cells (``banks``).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from cosmop_common.errors import InvalidInputError
from numpy.typing import NDArray

from cosmop_classifier.binary import fit_logistic
from cosmop_classifier.heads import Array, Features, Head, KnnHead, MahalanobisHead, Scores, unit

#: Fewer positive images describe no class.
MIN_IMAGES = 4
#: Training images that a threshold is chosen on: its share is then known to better than a percent.
ASKED = 2000
#: A larger bank is divided into cells.
_CELLS_ABOVE = 20_000
_FOLDS = 5
_BLOCK = 4096
_STRENGTH = 1e-2


class TooFewImagesError(InvalidInputError):
    """Too few positive training images for a one-class model."""


@dataclass(frozen=True)
class OneClassFit:
    """A fitted head, the threshold that goes with it, and what is worth telling."""

    head: Head
    threshold: float
    threshold_rule: str
    details: dict[str, Any] = field(default_factory=dict)
    #: Which training image each row of the head's bank is, where that is another order than theirs.
    order: NDArray[np.int64] | None = None


def fit_knn(pooled: Array, *, neighbours: int = 10, keep: float = 0.9, groups: Sequence[str] | None = None, seed: int = 0) -> OneClassFit:
    """Cosine kNN. The threshold keeps a share ``keep`` of the training images, each scored against those of other groups.

    Args:
        pooled: (n, c), of positive training images.
        neighbours: at most so many; of few images a tenth, at least 2: with k near n every image is as near as any other.
        groups: near-duplicate group of each image: a copy says nothing of how near a new image would be.
    """
    enough(len(pooled))
    k = min(neighbours, max(2, len(pooled) // 10), len(pooled) - 1)
    bank, order = unit(pooled), None
    head = KnnHead(bank, k)
    if len(bank) > _CELLS_ABOVE:
        head, order = _in_cells(bank, k, seed)
    _, member = np.unique(np.asarray(groups), return_inverse=True) if groups is not None else (None, np.arange(len(bank)))
    scores = _against_others(head, member if order is None else member[order], seed)
    details = {"neighbours": k, "cells": len(head.centroids)}
    return OneClassFit(head, cut(scores, keep), rule(keep, "scored against the others"), details, order)


def fit_mahalanobis(pooled: Array, *, keep: float = 0.9, seed: int = 0) -> OneClassFit:
    """Mahalanobis distance under a Ledoit-Wolf covariance. The threshold comes from heads that did not see the image."""
    enough(len(pooled))
    head = _mahalanobis(pooled)
    scores = cross_scores(len(pooled), seed, lambda rest, part: _mahalanobis(pooled[rest]).score(Features(pooled[part])))
    return OneClassFit(head, cut(scores, keep), rule(keep, "scored by heads that did not see them"))


def fit_background(pooled: Array, background: Array, *, keep: float = 0.9, seed: int = 0) -> OneClassFit:
    """A logistic regression of the positive images against background ones, which no one needs to have labelled.

    Args:
        pooled: (n, c), of positive training images.
        background: (m, c), of any other pictures; a few of the class among them do little harm.
    """
    enough(len(pooled))
    enough(len(background), "background")
    positive, other = unit(pooled), unit(background)

    def fitted(rows: NDArray[np.int64]) -> Head:
        truth = np.arange(len(rows) + len(other)) < len(rows)
        return fit_logistic([np.concatenate([positive[rows], other])], truth, _STRENGTH, unit_length=True)

    scores = cross_scores(len(positive), seed, lambda rest, part: fitted(rest).score(Features(positive[part])))
    details = {"background_images": len(other), "strength": _STRENGTH}
    return OneClassFit(fitted(np.arange(len(positive))), cut(scores, keep), rule(keep, "scored by heads that did not see them"), details)


def cut(scores: Scores, keep: float) -> float:
    """The threshold at which a share ``keep`` of the scores, or the next larger share, is at or above."""
    ordered = np.sort(scores)
    return float(ordered[int(np.floor(len(ordered) * (1 - keep) + 1e-9))])


def enough(count: int, what: str = "positive training") -> None:
    """Raises ``TooFewImagesError``."""
    if count < MIN_IMAGES:
        raise TooFewImagesError(f"{count} {what} images; a one-class model needs at least {MIN_IMAGES}: label more, or freeze with a larger train share")


def rule(keep: float, how: str) -> str:
    """How a threshold was chosen, as cards say it."""
    return f"keeps {keep:.0%} of the positive training images, {how}"


def cross_scores(count: int, seed: int, score: Callable[[NDArray[np.int64], NDArray[np.int64]], Scores]) -> Scores:
    """Scores of images by heads that did not see them: five folds, or of very many images one fold held out.

    Args:
        score: training rows and rows to score, to their scores.
    """
    shuffled = np.random.default_rng(seed).permutation(count)
    if count > _FOLDS * ASKED:
        return score(np.sort(shuffled[ASKED:]), np.sort(shuffled[:ASKED]))
    folds = [np.sort(shuffled[number::_FOLDS]) for number in range(min(_FOLDS, count))]
    return np.concatenate([score(np.setdiff1d(shuffled, fold), fold) for fold in folds])


def _in_cells(bank: Array, k: int, seed: int) -> tuple[KnnHead, NDArray[np.int64]]:
    """A head whose bank is ordered by cell, the cells found by k-means, and the order."""
    import faiss

    cells = round(float(np.sqrt(len(bank))))
    means = faiss.Kmeans(bank.shape[1], cells, niter=10, spherical=True, seed=seed, max_points_per_centroid=64)
    means.train(bank)
    cell = means.index.search(bank, 1)[1][:, 0]
    order = np.argsort(cell, kind="stable")
    starts = np.searchsorted(cell[order], np.arange(cells + 1))
    return KnnHead(bank[order], k, np.asarray(means.centroids, np.float32), starts.astype(np.int64)), order


def _against_others(head: KnnHead, member: NDArray[np.int64], seed: int) -> Scores:
    """Scores of (at most ``ASKED``) rows of the bank against the rows of other groups than their own."""
    rows = np.sort(np.random.default_rng(seed).permutation(len(head.bank))[:ASKED])
    # So many more are asked for that k are left when the group's own are taken out.
    own = min(int(np.bincount(member).max()), len(head.bank) - 1)
    found, alike = head.nearest(Features(head.bank[rows]), head.neighbours + own)
    others = np.where(member[found] == member[rows][:, None], -np.inf, alike)
    best = -np.sort(-others, axis=1)[:, : head.neighbours]
    count = np.isfinite(best).sum(axis=1)
    # Where every other image is a near-duplicate there is nothing to compare with.
    scores = np.where(np.isfinite(best), best, 0).sum(axis=1)[count > 0] / count[count > 0]
    return scores if len(scores) else np.full(1, -1.0)


def _mahalanobis(pooled: Array) -> MahalanobisHead:
    mean, covariance = ledoit_wolf(pooled)
    values, vectors = np.linalg.eigh(covariance)
    whiten = vectors / np.sqrt(np.maximum(values, values.max() * 1e-10))
    return MahalanobisHead(mean.astype(np.float32), whiten.astype(np.float32))


def ledoit_wolf(x: Array) -> tuple[Scores, Scores]:
    """Mean (c,) and shrunk covariance (c, c) of rows (n, c), summed block by block: memory grows with c alone.

    Source: Ledoit and Wolf, "A well-conditioned estimator for large-dimensional covariance matrices", Journal of
    Multivariate Analysis 88 (2004), lemma 3.2 to 3.4; the sum over samples of ||x x' - S||^2 is that of |x|^4 less n |S|^2.
    """
    n, c = x.shape
    mean = x.mean(axis=0, dtype=np.float64)
    products, fourth = np.zeros((c, c)), 0.0
    for start in range(0, n, _BLOCK):
        block = x[start : start + _BLOCK] - mean
        products += block.T @ block
        fourth += float(((block**2).sum(axis=1) ** 2).sum())
    covariance = products / n
    scale = float(np.trace(covariance)) / c
    spread = float((covariance**2).sum())
    distance = spread - c * scale**2
    noise = min((fourth / n - spread) / n, distance)
    share = noise / distance if distance > 0 else 1.0
    covariance *= 1 - share
    covariance[np.diag_indices(c)] += share * scale
    return mean, covariance
