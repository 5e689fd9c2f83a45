"""The heads by name, and how one is read back from its file.

``LinearHead``, ``MahalanobisHead`` and ``SvmHead`` are here, those that compare with training images in ``banks``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from safetensors.numpy import load

from cosmop_classifier.banks import KnnHead, PatchHead
from cosmop_classifier.head_base import Array, Features, Head, HeadError, Scores, Tensors, nearest_mean, similarities, unit

__all__ = [
    "HEADS",
    "Array",
    "Features",
    "Head",
    "HeadError",
    "KnnHead",
    "LinearHead",
    "MahalanobisHead",
    "PatchHead",
    "Scores",
    "SvmHead",
    "nearest_mean",
    "read_head",
    "similarities",
    "unit",
]


@dataclass(frozen=True)
class LinearHead(Head):
    """A logit: ``pooled @ weight + bias``."""

    weight: Array
    bias: float
    #: Features are scaled to length 1 first.
    unit_length: bool = False
    kind: ClassVar[str] = "linear"

    def score(self, features: Features) -> Scores:
        """The logit of the positive class, before calibration."""
        pooled = unit(features.pooled) if self.unit_length else features.pooled
        return np.asarray(pooled.astype(np.float64) @ self.weight.astype(np.float64) + self.bias)

    def tensors(self) -> Tensors:
        """The weights (c,), the bias (1,), and whether features are scaled (1,)."""
        return {"weight": self.weight.astype(np.float32), "bias": np.array([self.bias], np.float32), "unit": np.array([self.unit_length], np.int64)}

    @classmethod
    def of(cls, tensors: Tensors) -> LinearHead:
        """From weight and bias."""
        return cls(tensors["weight"], float(tensors["bias"][0]), bool(tensors["unit"][0]) if "unit" in tensors else False)


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

    def tensors(self) -> Tensors:
        """The mean (c,) and the whitening factor (c, c)."""
        return {"mean": self.mean.astype(np.float32), "whiten": self.whiten.astype(np.float32)}

    @classmethod
    def of(cls, tensors: Tensors) -> MahalanobisHead:
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
        x, support = self.project(features.whole_map("svm")), self.support.astype(np.float64)
        squared = (x**2).sum(1)[:, None] + (support**2).sum(1)[None] - 2 * x @ support.T
        return np.asarray(np.exp(-self.gamma * np.maximum(squared, 0)) @ self.dual.astype(np.float64) + self.offset)

    def tensors(self) -> Tensors:
        """All of it; offset and gamma as (1,)."""
        arrays = {name: getattr(self, name).astype(np.float32) for name in ("mean", "scale", "components", "centre", "support", "dual")}
        return arrays | {"offset": np.array([self.offset], np.float32), "gamma": np.array([self.gamma], np.float32)}

    @classmethod
    def of(cls, tensors: Tensors) -> SvmHead:
        """From its arrays."""
        arrays = {name: tensors[name] for name in ("mean", "scale", "components", "centre", "support", "dual")}
        return cls(**arrays, offset=float(tensors["offset"][0]), gamma=float(tensors["gamma"][0]))


HEADS: dict[str, type[Head]] = {head.kind: head for head in (LinearHead, KnnHead, MahalanobisHead, SvmHead, PatchHead)}


def read_head(data: bytes, kind: str) -> Head:
    """The head in a safetensors file. Raises ``HeadError``."""
    if kind not in HEADS:
        raise HeadError(f"no head is called {kind!r}; known are {', '.join(sorted(HEADS))}")
    try:
        return HEADS[kind].of(load(data))
    except Exception as error:
        raise HeadError(f"the file of the {kind} head cannot be read ({error}): restore it, or train the model again") from error
