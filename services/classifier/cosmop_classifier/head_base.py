"""What every head is: plain arrays and a few lines of NumPy that turn a network's features into a score.

A head is stored as safetensors and evaluated without scikit-learn, faiss or torch, so that a serving process needs none of
them and no file of a model can execute anything. Fitting lives in ``binary`` and ``oneclass``; here is only what serving needs.

Shapes: ``pooled`` is (n, c), the global average of the last feature map; ``feature_map`` is (n, c, h, w), that map itself.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from cosmop_common.errors import InvalidInputError
from numpy.typing import NDArray
from safetensors.numpy import save

Array = NDArray[np.float32]
Scores = NDArray[np.float64]
Tensors = dict[str, NDArray[Any]]


class HeadError(InvalidInputError):
    """A head's file that does not hold what its kind needs."""


@dataclass(frozen=True)
class Features:
    """What the network says of n images."""

    pooled: Array
    #: Only where a head asks for it (``Head.needs_map``).
    feature_map: Array | None = None

    def whole_map(self, wanted_by: str) -> Array:
        """The feature map. Raises ``HeadError`` where the network was not asked for it."""
        if self.feature_map is None:
            raise HeadError(f"the {wanted_by} head needs the whole feature map, not its average: ask the network for it")
        return self.feature_map


class Head(ABC):
    """Features in, one score an image out: higher is more like the positive class."""

    kind: ClassVar[str]
    needs_map: ClassVar[bool] = False

    @abstractmethod
    def score(self, features: Features) -> Scores:
        """Shape (n,)."""

    @abstractmethod
    def tensors(self) -> Tensors:
        """The arrays that make the head; the inverse of ``of``."""

    @classmethod
    @abstractmethod
    def of(cls, tensors: Tensors) -> Head:
        """The head of these arrays. Raises ``KeyError`` where one is missing."""

    def to_bytes(self) -> bytes:
        """safetensors; the same head gives the same bytes."""
        arrays = {name: np.ascontiguousarray(array) for name, array in self.tensors().items()}
        return save(arrays, metadata={"kind": self.kind})


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
