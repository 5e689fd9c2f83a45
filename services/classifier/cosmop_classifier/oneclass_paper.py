"""The paper's one-class preset: flattened feature map, standard scaler, PCA to min(1024, n - 1), RBF one-class SVM cut at 0.

With ResNet-50 an image is 7 x 7 x 2048 = 100,352 numbers, and 100,000 images are 40 GB. What fits into memory is fitted
exactly (``fit_svm``); more is streamed (``StreamedPaper``): the scaler from a sample, the components from all images.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cosmop_classifier.heads import Array, Scores, SvmHead
from cosmop_classifier.oneclass import OneClassFit, enough

Map = NDArray[np.float16] | Array

COMPONENTS = 1024
#: Above so many images the leading components are taken by a randomised decomposition (Halko et al., 2011).
_EXACT_PCA = 2500


def fit_svm(feature_map: Map, *, nu: float = 0.5, seed: int = 0) -> OneClassFit:
    """The whole recipe on images that fit into memory.

    The paper names neither nu nor gamma: they are scikit-learn's defaults (0.5, "scale").

    Args:
        feature_map: (n, c, h, w), of positive training images.
    """
    from sklearn.decomposition import PCA

    enough(len(feature_map))
    flat, mean, scale = _scaled(feature_map)
    components = min(COMPONENTS, len(flat) - 1, flat.shape[1])
    solver = "full" if len(flat) <= _EXACT_PCA else "randomized"
    pca = PCA(components, svd_solver=solver, random_state=seed)
    reduced = pca.fit_transform(flat)
    details = {"components": components, "explained_variance": float(pca.explained_variance_ratio_.sum()), "features": int(flat.shape[1]), "pca": solver}
    return _with_svm(reduced, mean, scale, pca.components_, pca.mean_, nu, details)


class StreamedPaper:
    """The recipe on more images than fit into memory: ``learn`` from all, chunk by chunk, then ``finish`` with some of them.

    The components follow every image (Ross et al., "Incremental Learning for Robust Visual Tracking", IJCV 77 (2008), section
    3.2), their variance exactly what was seen. Held at once: components and one block, 2 x (1024 + block) x features x 4 bytes.
    """

    def __init__(self, sample: Map, *, components: int = COMPONENTS, block: int = 2048) -> None:
        """Starts with a sample of the images, (n, c, h, w): the scaler is theirs alone, and they are learned from as well."""
        enough(len(sample))
        flat, self._mean, self._scale = _scaled(sample)
        self._wanted, self._block = min(components, flat.shape[1]), max(block, components + 1)
        self._count, self._squares = 0, 0.0
        self._centre = np.zeros(flat.shape[1], np.float32)
        self._basis, self._spread = np.zeros((0, flat.shape[1]), np.float32), np.zeros(0)
        self._waiting: list[Array] = []
        self._take(flat)

    def learn(self, feature_map: Map) -> None:
        """Further images, (n, c, h, w)."""
        self._take((feature_map.reshape(len(feature_map), -1).astype(np.float32) - self._mean) / self._scale)

    def reduce(self, feature_map: Map) -> Scores:
        """Coordinates of images in the components as they are now, (n, components): call it when all are learned."""
        self._update()
        flat = (feature_map.reshape(len(feature_map), -1).astype(np.float32) - self._mean) / self._scale - self._centre
        return np.asarray(flat @ self._basis.T, dtype=np.float64)

    def finish(self, reduced: Scores, *, nu: float = 0.5) -> OneClassFit:
        """The SVM on reduced images, whose kernel is what bounds their number."""
        self._update()
        explained = float((self._spread**2).sum() / self._squares)
        details = {"components": len(self._basis), "explained_variance": explained, "features": len(self._mean), "pca": "incremental"}
        details |= {"pca_images": self._count, "svm_images": len(reduced)}
        return _with_svm(reduced, self._mean, self._scale, self._basis, self._centre, nu, details)

    def _take(self, flat: Array) -> None:
        for start in range(0, len(flat), self._block):
            self._waiting.append(flat[start : start + self._block])
            if sum(map(len, self._waiting)) >= self._block:
                self._update()

    def _update(self) -> None:
        """Merges what waits into mean and components."""
        if not self._waiting:
            return
        x, self._waiting = np.concatenate(self._waiting), []
        new, before, after = x.mean(axis=0), self._count, self._count + len(x)
        shift = (self._centre - new) * np.float32(np.sqrt(before * len(x) / after))
        x -= new
        self._squares += float((x.astype(np.float64) ** 2).sum() + (shift.astype(np.float64) ** 2).sum())
        rows = np.concatenate([self._basis * self._spread[:, None].astype(np.float32), x, shift[None]]) if before else x
        # The small side's eigenproblem instead of the singular values of a wide matrix.
        values, vectors = _eigen(rows @ rows.T)
        limit = min(self._wanted, after - 1)
        kept = np.argsort(values)[::-1][:limit]
        kept = kept[values[kept] > values.max() * 1e-9]
        self._spread = np.sqrt(values[kept])
        self._basis = np.asarray(vectors[:, kept].T @ rows / self._spread[:, None], np.float32)
        self._centre = self._centre + (new - self._centre) * np.float32(len(x) / after)
        self._count = after


def _eigen(gram: Array) -> tuple[Scores, Scores]:
    values, vectors = np.linalg.eigh(gram.astype(np.float64))
    return values, vectors


def _scaled(feature_map: Map) -> tuple[Array, Array, Array]:
    """Flattened and standardised maps (n, f), and the scaler's mean and scale (f,)."""
    flat = feature_map.reshape(len(feature_map), -1).astype(np.float32)
    mean = flat.mean(axis=0)
    flat -= mean
    scale = np.sqrt(np.mean(flat**2, axis=0))
    scale[scale == 0] = 1.0
    flat /= scale
    return flat, mean, scale


def _with_svm(reduced: Scores, mean: Array, scale: Array, components: Array, centre: Array, nu: float, details: dict[str, Any]) -> OneClassFit:
    from sklearn.svm import OneClassSVM

    svm = OneClassSVM(kernel="rbf", gamma="scale", nu=nu).fit(reduced)
    head = SvmHead(
        mean=mean,
        scale=scale,
        components=components.astype(np.float32),
        centre=centre.astype(np.float32),
        support=svm.support_vectors_.astype(np.float32),
        dual=svm.dual_coef_[0].astype(np.float32),
        offset=float(svm.intercept_[0]),
        gamma=float(svm._gamma),  # noqa: SLF001 - the value that "scale" came to is kept nowhere else
    )
    return OneClassFit(head, 0.0, "the SVM's own boundary", details | {"support_vectors": len(head.support), "nu": nu, "gamma": head.gamma})
