"""Fitting one-class heads on features of positive training images only, and choosing their thresholds without a negative.

``knn`` is the default: pooled features beat the flattened feature map by far (docs/decisions.md has the figures). ``svm`` is the
paper's recipe, kept as it is published so that its result can be reproduced.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from cosmop_common.errors import InvalidInputError
from numpy.typing import NDArray

from cosmop_classifier.heads import Array, Features, Head, KnnHead, MahalanobisHead, Scores, SvmHead, nearest_mean, unit

#: Fewer positive images describe no class.
MIN_IMAGES = 4
#: Above so many images the paper's PCA takes its leading components by a randomised decomposition.
_EXACT_PCA = 2500
_PAPER_COMPONENTS = 1024
_FOLDS = 5


class TooFewImagesError(InvalidInputError):
    """Too few positive training images for a one-class model."""


@dataclass(frozen=True)
class OneClassFit:
    """A fitted head, the threshold that goes with it, and what is worth telling."""

    head: Head
    threshold: float
    threshold_rule: str
    details: dict[str, Any] = field(default_factory=dict)


def fit_knn(pooled: Array, *, neighbours: int = 2, keep: float = 0.9) -> OneClassFit:
    """Cosine kNN. The threshold keeps a share ``keep`` of the training images, each scored against the others.

    Args:
        pooled: (n, c), of positive training images.
    """
    _enough(len(pooled))
    bank = unit(pooled)
    k = min(neighbours, len(bank) - 1)
    scores = np.concatenate([_leave_one_out(bank, start, k) for start in range(0, len(bank), 1024)])
    return OneClassFit(KnnHead(bank, k), cut(scores, keep), _rule(keep, "scored against the others"), {"neighbours": k})


def fit_mahalanobis(pooled: Array, *, keep: float = 0.9, seed: int = 0) -> OneClassFit:
    """Mahalanobis distance under a Ledoit-Wolf covariance. The threshold comes from five folds of the training images."""
    _enough(len(pooled))
    head = _mahalanobis(pooled)
    scores = _cross_scores(pooled, seed, lambda part, rest: _mahalanobis(part).score(Features(rest)))
    return OneClassFit(head, cut(scores, keep), _rule(keep, "scored by heads that did not see them"))


def fit_svm(feature_map: NDArray[np.float16] | Array, *, nu: float = 0.5, seed: int = 0) -> OneClassFit:
    """The paper's preset: flattened feature map, standard scaler, PCA to min(1024, n - 1), RBF one-class SVM cut at 0.

    The paper names neither nu nor gamma: they are scikit-learn's defaults (0.5, "scale").

    Args:
        feature_map: (n, c, h, w), of positive training images.
    """
    from sklearn.decomposition import PCA
    from sklearn.svm import OneClassSVM

    _enough(len(feature_map))
    flat = feature_map.reshape(len(feature_map), -1).astype(np.float32)
    mean = flat.mean(axis=0)
    flat -= mean
    scale = np.sqrt(np.mean(flat**2, axis=0))
    scale[scale == 0] = 1.0
    flat /= scale
    components = min(_PAPER_COMPONENTS, len(flat) - 1, flat.shape[1])
    solver = "full" if len(flat) <= _EXACT_PCA else "randomized"
    pca = PCA(components, svd_solver=solver, random_state=seed)
    reduced = pca.fit_transform(flat)
    svm = OneClassSVM(kernel="rbf", gamma="scale", nu=nu).fit(reduced)
    head = SvmHead(
        mean=mean,
        scale=scale,
        components=pca.components_.astype(np.float32),
        centre=pca.mean_.astype(np.float32),
        support=svm.support_vectors_.astype(np.float32),
        dual=svm.dual_coef_[0].astype(np.float32),
        offset=float(svm.intercept_[0]),
        gamma=float(svm._gamma),  # noqa: SLF001 - the value that "scale" came to is kept nowhere else
    )
    details = {
        "components": components,
        "explained_variance": float(pca.explained_variance_ratio_.sum()),
        "support_vectors": len(head.support),
        "nu": nu,
        "gamma": head.gamma,
        "features": int(flat.shape[1]),
    }
    return OneClassFit(head, 0.0, "the SVM's own boundary", details)


def cut(scores: Scores, keep: float) -> float:
    """The threshold at which a share ``keep`` of the scores, or the next larger share, is at or above."""
    ordered = np.sort(scores)
    return float(ordered[int(np.floor(len(ordered) * (1 - keep) + 1e-9))])


def _leave_one_out(bank: Array, start: int, k: int) -> Scores:
    alike = np.asarray(bank[start : start + 1024] @ bank.T, dtype=np.float64)
    alike[np.arange(len(alike)), start + np.arange(len(alike))] = -np.inf
    return nearest_mean(alike, k)


def _mahalanobis(pooled: Array) -> MahalanobisHead:
    from sklearn.covariance import LedoitWolf

    fitted = LedoitWolf().fit(pooled.astype(np.float64))
    values, vectors = np.linalg.eigh(fitted.covariance_)
    whiten = vectors / np.sqrt(np.maximum(values, values.max() * 1e-10))
    return MahalanobisHead(fitted.location_.astype(np.float32), whiten.astype(np.float32))


def _cross_scores(pooled: Array, seed: int, score: Callable[[Array, Array], Scores]) -> Scores:
    """Each row's score by a head fitted on other folds."""
    fold = np.random.default_rng(seed).permutation(len(pooled)) % min(_FOLDS, len(pooled))
    scores = np.zeros(len(pooled))
    for number in np.unique(fold):
        scores[fold == number] = score(pooled[fold != number], pooled[fold == number])
    return scores


def _enough(count: int) -> None:
    if count < MIN_IMAGES:
        raise TooFewImagesError(
            f"{count} positive training images; a one-class model needs at least {MIN_IMAGES}: label more, or freeze with a larger train share"
        )


def _rule(keep: float, how: str) -> str:
    return f"keeps {keep:.0%} of the positive training images, {how}"
