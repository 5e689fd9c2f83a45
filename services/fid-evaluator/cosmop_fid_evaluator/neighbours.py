"""Nearest neighbours in feature space: precision, recall, density, coverage, and copies of the training images."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cosmop_fid_evaluator.errors import TooFewImagesError
from cosmop_fid_evaluator.intervals import Interval, normal_interval, wilson_interval
from cosmop_fid_evaluator.moments import Features, Matrix

_BLOCK = 1024
#: Squared distances below this share of the vectors' own squares are 0: equal images differ by that in float32 already.
_EQUAL = 1e-10
#: Twice the same training image: what lies beside it is no copy, at any distance.
_NO_FELLOW = 1e-9


@dataclass(frozen=True)
class Share:
    """A mean over images with its interval, the other set taken as it is."""

    value: float
    interval: Interval
    method: str


@dataclass(frozen=True)
class Prdc:
    """Precision and recall (Kynkaanniemi et al., 2019); density and coverage (Naeem et al., 2020, section 3)."""

    precision: Share
    recall: Share
    density: Share
    coverage: Share


@dataclass(frozen=True)
class Copies:
    """How close each candidate is to what the generator was trained on.

    Attributes:
        nearest: index of each candidate's nearest reference image, shape (n,).
        ratio: its distance, as a share of that reference image's distance to its own nearest fellow, shape (n,). Below 1 the
            candidate is nearer to a training image than any other training image is (Alaa et al., "How Faithful is your
            Synthetic Data?", 2022: not authentic); near 0 it is a copy.
    """

    nearest: NDArray[np.intp]
    ratio: Matrix

    def suspected(self, threshold: float) -> NDArray[np.bool_]:
        """Candidates whose ratio is below ``threshold``."""
        return np.asarray(self.ratio < threshold)


def prdc(reference: Features, candidate: Features, k: int = 5) -> Prdc:
    """The four measures with ``k`` nearest neighbours.

    Args:
        reference, candidate: features, shapes (n1, d) and (n2, d), more than ``k`` rows each.
    """
    if min(len(reference), len(candidate)) <= k:
        raise TooFewImagesError(f"precision and recall with {k} neighbours need more than {k} images in each set, not {len(reference)} and {len(candidate)}")
    reference_radius, candidate_radius = _kth_distance(reference, k), _kth_distance(candidate, k)
    inside = np.zeros(len(candidate))
    nearest = np.empty(len(reference))
    recalled = np.zeros(len(reference), dtype=bool)
    for rows, distance in _blocks(reference, candidate):
        inside += (distance <= reference_radius[rows, None]).sum(axis=0)
        nearest[rows] = distance.min(axis=1)
        recalled[rows] = (distance <= candidate_radius[None, :]).any(axis=1)
    densities = inside / k
    error = float(densities.std(ddof=1) / np.sqrt(len(densities)))
    return Prdc(
        _proportion(inside > 0),
        _proportion(recalled),
        Share(float(densities.mean()), normal_interval(float(densities.mean()), error, at_least=0.0), "normal"),
        _proportion(nearest <= reference_radius),
    )


def copies(reference: Features, candidate: Features) -> Copies:
    """The nearest reference image of each candidate, and how suspiciously near it is.

    Args:
        reference: features of what the generator was trained on, at least 2 rows.
    """
    if len(reference) < 2:  # noqa: PLR2004 - a nearest fellow is needed
        raise TooFewImagesError("copies cannot be judged against one image: at least 2 are needed")
    fellow = _kth_distance(reference, 1)
    nearest = np.empty(len(candidate), dtype=np.intp)
    distances = np.empty(len(candidate))
    for rows, distance in _blocks(candidate, reference):
        nearest[rows] = distance.argmin(axis=1)
        distances[rows] = distance.min(axis=1)
    # Two equal training images are 0 apart: a candidate on them is a copy (0 over next to nothing), one beside them is none.
    return Copies(nearest, distances / np.maximum(fellow[nearest], _NO_FELLOW))


def _proportion(hits: NDArray[np.bool_]) -> Share:
    return Share(float(hits.mean()), wilson_interval(float(hits.sum()), hits.size), "wilson")


def _kth_distance(x: Features, k: int) -> Matrix:
    """Distance of each row to its k-th nearest other row."""
    radii = np.empty(len(x))
    for rows, distance in _blocks(x, x):
        distance[np.arange(distance.shape[0]), np.arange(rows.start, rows.start + distance.shape[0])] = 0.0
        radii[rows] = np.partition(distance, k, axis=1)[:, k]
    return radii


def _blocks(x: Features, y: Features) -> Iterator[tuple[slice, Matrix]]:
    """Euclidean distances between all rows of x and y, a block of x at a time."""
    wide_x, wide_y = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    square_y = (wide_y * wide_y).sum(axis=1)
    for start in range(0, len(wide_x), _BLOCK):
        rows = slice(start, min(start + _BLOCK, len(wide_x)))
        part = wide_x[rows]
        sizes = (part * part).sum(axis=1)[:, None] + square_y[None, :]
        squares = sizes - 2 * part @ wide_y.T
        squares[squares < _EQUAL * sizes] = 0
        yield rows, np.sqrt(squares)
