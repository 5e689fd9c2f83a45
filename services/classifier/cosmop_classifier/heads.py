"""What stands on a network's features and gives a score: plain arrays and a few lines of numpy each.

A head is stored as safetensors and evaluated without scikit-learn or torch, so that a serving process needs neither and
no file of a model can execute anything. ``fit`` lives in ``binary`` and ``oneclass``; here is only what serving needs.

Shapes: ``pooled`` is (n, c), the global average of the last feature map; ``feature_map`` is (n, c, h, w), that map itself.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, cast

import numpy as np
from cosmop_common.errors import InvalidInputError
from numpy.typing import NDArray
from safetensors.numpy import load, save

Array = NDArray[np.float32]
Scores = NDArray[np.float64]


class HeadError(InvalidInputError):
    """A head's file that does not hold what its kind needs."""


@dataclass(frozen=True)
class Features:
    """What the network says of n images."""

    pooled: Array
    #: Only where a head asks for it (``Head.needs_map``).
    feature_map: Array | None = None


class Head(ABC):
    """Features in, one score an image out: higher is more like the positive class."""

    kind: ClassVar[str]
    needs_map: ClassVar[bool] = False

    @abstractmethod
    def score(self, features: Features) -> Scores:
        """Shape (n,)."""

    @abstractmethod
    def tensors(self) -> dict[str, NDArray[np.float32] | NDArray[np.int64]]:
        """The arrays that make the head; the inverse of ``of``."""

    @classmethod
    @abstractmethod
    def of(cls, tensors: dict[str, NDArray[np.float32]]) -> Head:
        """The head of these arrays. Raises ``KeyError`` where one is missing."""

    def to_bytes(self) -> bytes:
        """safetensors; the same head gives the same bytes."""
        arrays = {name: np.ascontiguousarray(array) for name, array in self.tensors().items()}
        return save(arrays, metadata={"kind": self.kind})


@dataclass(frozen=True)
class LinearHead(Head):
    """A logit: ``pooled @ weight + bias``."""

    weight: Array
    bias: float
    kind: ClassVar[str] = "linear"

    def score(self, features: Features) -> Scores:
        """The logit of the positive class, before calibration."""
        return np.asarray(features.pooled.astype(np.float64) @ self.weight.astype(np.float64) + self.bias)

    def tensors(self) -> dict[str, NDArray[np.float32] | NDArray[np.int64]]:
        """The weights (c,) and the bias (1,)."""
        return {"weight": self.weight.astype(np.float32), "bias": np.array([self.bias], np.float32)}

    @classmethod
    def of(cls, tensors: dict[str, NDArray[np.float32]]) -> LinearHead:
        """From weight and bias."""
        return cls(tensors["weight"], float(tensors["bias"][0]))


@dataclass(frozen=True)
class KnnHead(Head):
    """Mean cosine similarity to the k nearest training images, on pooled features of unit length.

    Source: Bergman, Cohen and Hoshen, "Deep Nearest Neighbor Anomaly Detection", 2020 (DN2), with cosine for Euclid.
    """

    #: (n, c), rows of unit length.
    bank: Array
    neighbours: int
    kind: ClassVar[str] = "knn"

    def score(self, features: Features) -> Scores:
        """In [-1, 1]."""
        return nearest_mean(similarities(features.pooled, self.bank), self.neighbours)

    def nearest(self, features: Features, count: int) -> tuple[NDArray[np.int64], Scores]:
        """Rows of the bank most like each image, and how like: both (n, count), best first."""
        alike = similarities(features.pooled, self.bank)
        rows = np.argsort(-alike, axis=1, kind="stable")[:, :count]
        return rows, np.take_along_axis(alike, rows, axis=1)

    def tensors(self) -> dict[str, NDArray[np.float32] | NDArray[np.int64]]:
        """The bank (n, c) and the number of neighbours (1,)."""
        return {"bank": self.bank, "neighbours": np.array([self.neighbours], np.int64)}

    @classmethod
    def of(cls, tensors: dict[str, NDArray[np.float32]]) -> KnnHead:
        """From bank and neighbours."""
        return cls(tensors["bank"], int(tensors["neighbours"][0]))


@dataclass(frozen=True)
class MahalanobisHead(Head):
    """Minus the Mahalanobis distance to the training images.

    Source: Rippel et al., "Modeling the Distribution of Normal Data in Pre-Trained Deep Features", ICPR 2020.
    """

    mean: Array
    #: (c, c): a factor W of the inverse covariance, W W^T.
    whiten: Array
    kind: ClassVar[str] = "mahalanobis"

    def score(self, features: Features) -> Scores:
        """At most 0."""
        white = (features.pooled - self.mean).astype(np.float64) @ self.whiten.astype(np.float64)
        return np.asarray(-np.sqrt((white**2).sum(axis=1)))

    def tensors(self) -> dict[str, NDArray[np.float32] | NDArray[np.int64]]:
        """The mean (c,) and the whitening factor (c, c)."""
        return {"mean": self.mean.astype(np.float32), "whiten": self.whiten.astype(np.float32)}

    @classmethod
    def of(cls, tensors: dict[str, NDArray[np.float32]]) -> MahalanobisHead:
        """From mean and whiten."""
        return cls(tensors["mean"], tensors["whiten"])


@dataclass(frozen=True)
class SvmHead(Head):
    """The paper's one-class road: flattened feature map, standard scaler, PCA, one-class SVM with an RBF kernel.

    Source: the COSMOP paper, section on the one-class classifier; the SVM is Schoelkopf et al., "Estimating the Support
    of a High-Dimensional Distribution", Neural Computation 13 (2001), equation 11.
    """

    #: Of the scaler, shape (c * h * w,).
    mean: Array
    scale: Array
    #: Of the PCA, shapes (p, c * h * w) and (p,).
    components: Array
    centre: Array
    #: Of the SVM: support vectors (s, p), their weights (s,), offset and gamma.
    support: Array
    dual: Array
    offset: float
    gamma: float
    kind: ClassVar[str] = "svm"
    needs_map: ClassVar[bool] = True

    def project(self, feature_map: Array) -> Scores:
        """The PCA coordinates of images: (n, c, h, w) -> (n, p)."""
        flat = (feature_map.reshape(len(feature_map), -1).astype(np.float32) - self.mean) / self.scale - self.centre
        return np.asarray(flat @ self.components.T, dtype=np.float64)

    def score(self, features: Features) -> Scores:
        """The signed distance to the boundary; 0 is on it."""
        if features.feature_map is None:
            raise HeadError("the paper's one-class head needs the whole feature map, not its average: ask the network for it")
        x, support = self.project(features.feature_map), self.support.astype(np.float64)
        squared = (x**2).sum(1)[:, None] + (support**2).sum(1)[None] - 2 * x @ support.T
        return np.asarray(np.exp(-self.gamma * np.maximum(squared, 0)) @ self.dual.astype(np.float64) + self.offset)

    def tensors(self) -> dict[str, NDArray[np.float32] | NDArray[np.int64]]:
        """All of it; offset and gamma as (1,)."""
        arrays = {name: getattr(self, name).astype(np.float32) for name in ("mean", "scale", "components", "centre", "support", "dual")}
        return arrays | {"offset": np.array([self.offset], np.float32), "gamma": np.array([self.gamma], np.float32)}

    @classmethod
    def of(cls, tensors: dict[str, NDArray[np.float32]]) -> SvmHead:
        """From its arrays."""
        arrays = {name: tensors[name] for name in ("mean", "scale", "components", "centre", "support", "dual")}
        return cls(**arrays, offset=float(tensors["offset"][0]), gamma=float(tensors["gamma"][0]))


HEADS: dict[str, type[Head]] = {head.kind: head for head in (LinearHead, KnnHead, MahalanobisHead, SvmHead)}


def read_head(data: bytes, kind: str) -> Head:
    """The head in a safetensors file. Raises ``HeadError``."""
    if kind not in HEADS:
        raise HeadError(f"no head is called {kind!r}; known are {', '.join(sorted(HEADS))}")
    try:
        return HEADS[kind].of(cast("dict[str, NDArray[np.float32]]", load(data)))
    except Exception as error:
        raise HeadError(f"the file of the {kind} head cannot be read ({error}): restore it, or train the model again") from error


def unit(pooled: Array) -> Array:
    """Rows scaled to length 1; a row of zeros stays."""
    return np.asarray(pooled / np.maximum(np.linalg.norm(pooled, axis=1, keepdims=True), 1e-12), dtype=np.float32)


def similarities(pooled: Array, bank: Array) -> Scores:
    """Cosine similarity of each image (n, c) to each row of a bank of unit vectors (m, c): (n, m)."""
    return np.asarray(unit(pooled) @ bank.T, dtype=np.float64)


def nearest_mean(alike: Scores, neighbours: int) -> Scores:
    """Mean of the ``neighbours`` largest values of each row."""
    count = min(neighbours, alike.shape[1])
    return np.asarray(np.partition(alike, alike.shape[1] - count, axis=1)[:, -count:].mean(axis=1))
