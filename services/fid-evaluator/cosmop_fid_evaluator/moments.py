"""Mean and covariance of feature vectors in float64, accumulated in pieces and merged across shards, workers and files."""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cosmop_fid_evaluator.errors import TooFewImagesError

Features = NDArray[np.float32] | NDArray[np.float64]
Matrix = NDArray[np.float64]

#: Rows that are float64 at one time: features are float32, and there may be 50,000 of 2,048.
BLOCK = 4096


@dataclass(frozen=True)
class Moments:
    """Sufficient statistics of a Gaussian fitted to features.

    Kept centred (count, mean, scatter about the mean) and merged by the parallel formula, because raw sums of squares
    lose half of their digits where the mean is large against the spread.
    Source: Chan, Golub, LeVeque, "Updating Formulae and a Pairwise Algorithm for Computing Sample Variances", 1979.

    Attributes:
        count: number of vectors.
        mean: shape (d,).
        scatter: sum of (x - mean)(x - mean)^T, shape (d, d).
    """

    count: int
    mean: Matrix
    scatter: Matrix

    @classmethod
    def of(cls, features: Features) -> Moments:
        """Statistics of ``features``, shape (n, d), n >= 1."""
        if features.ndim != 2 or not len(features):  # noqa: PLR2004 - rows and columns
            raise TooFewImagesError(f"features of shape {features.shape} have no statistics: at least one row of them is needed")
        merged = cls._of_block(features[:BLOCK])
        for start in range(BLOCK, len(features), BLOCK):
            merged = merged.merge(cls._of_block(features[start : start + BLOCK]))
        return merged

    @classmethod
    def _of_block(cls, features: Features) -> Moments:
        x = np.asarray(features, dtype=np.float64)
        mean = x.mean(axis=0)
        centred = x - mean
        return cls(len(x), mean, centred.T @ centred)

    def merge(self, other: Moments) -> Moments:
        """Statistics of both together; the order of merging changes them by rounding only (4e-16 relative)."""
        if self.mean.shape != other.mean.shape:
            raise ValueError(f"features of {self.mean.size} and of {other.mean.size} dimensions cannot be merged: they come from different networks")
        count = self.count + other.count
        shift = other.mean - self.mean
        mean = self.mean + shift * (other.count / count)
        scatter = self.scatter + other.scatter + np.outer(shift, shift) * (self.count * other.count / count)
        return Moments(count, mean, scatter)

    @property
    def covariance(self) -> Matrix:
        """The unbiased covariance, divided by n - 1 as FID's definition code does (``numpy.cov``)."""
        if self.count < 2:  # noqa: PLR2004 - one vector has no spread
            raise TooFewImagesError(f"the covariance of {self.count} image is not defined: at least 2 are needed")
        return self.scatter / (self.count - 1)

    def dumps(self) -> bytes:
        """As a ``.npz`` file."""
        sink = io.BytesIO()
        np.savez(sink, count=np.int64(self.count), mean=self.mean, scatter=self.scatter)
        return sink.getvalue()

    @classmethod
    def loads(cls, data: bytes) -> Moments:
        """From a ``.npz`` file; nothing in it is ever unpickled."""
        with np.load(io.BytesIO(data), allow_pickle=False) as file:
            return cls(int(file["count"]), file["mean"], file["scatter"])
