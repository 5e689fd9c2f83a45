"""Kernel Inception Distance: the squared maximum mean discrepancy with the kernel ``(x.y / d + 1)^3``.

Unbiased at any N, which FID is not. Source: Binkowski et al., "Demystifying MMD GANs", 2018, section 3.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cosmop_fid_evaluator.errors import TooFewImagesError
from cosmop_fid_evaluator.intervals import Interval, normal_interval
from cosmop_fid_evaluator.moments import Features, Matrix

_BLOCK = 2048


@dataclass(frozen=True)
class Kid:
    """KID and its interval."""

    value: float
    interval: Interval


def kid(first: Features, second: Features) -> Kid:
    """KID over all pairs, with a delta-method interval.

    All pairs are the minimum-variance form of what the usual average over random subsets estimates. The interval comes
    from the projections of the U-statistic on single observations (Serfling, Approximation Theorems, section 5.3); it may
    reach below 0, as an unbiased estimate of a distance near 0 must.

    Args:
        first, second: features, shapes (n1, d) and (n2, d), at least 2 rows each.
    """
    m, n = len(first), len(second)
    if min(m, n) < 2:  # noqa: PLR2004 - the estimate divides by n - 1
        raise TooFewImagesError(f"KID of {m} against {n} images is not defined: at least 2 are needed in each set")
    within_first, within_second = _sums(first, first)[0], _sums(second, second)[0]
    across_first, across_second = _sums(first, second)
    own_first, own_second = _diagonal(first), _diagonal(second)
    # Mean kernel of each observation with the others of its own set, and with all of the other set.
    inner_first, inner_second = (within_first - own_first) / (m - 1), (within_second - own_second) / (n - 1)
    outer_first, outer_second = across_first / n, across_second / m
    value = float(inner_first.mean() + inner_second.mean() - 2 * outer_first.mean())
    variance = 4 * ((inner_first - outer_first).var(ddof=1) / m + (inner_second - outer_second).var(ddof=1) / n)
    return Kid(value, normal_interval(value, float(np.sqrt(variance))))


def kid_of_subsets(first: Features, second: Features, *, subsets: int = 100, size: int = 1000, seed: int = 0) -> tuple[float, float]:
    """KID as other tools report it: mean and standard deviation over random subsets. For comparison with them only."""
    if min(len(first), len(second)) < size:
        raise TooFewImagesError(f"subsets of {size} cannot be drawn from {len(first)} and {len(second)} images")
    rng = np.random.default_rng(seed)
    values = [kid(first[rng.permutation(len(first))[:size]], second[rng.permutation(len(second))[:size]]).value for _ in range(subsets)]
    return float(np.mean(values)), float(np.std(values))


def _sums(x: Features, y: Features) -> tuple[Matrix, Matrix]:
    """Sum of the kernel of each row of x with all rows of y, and of each row of y with all of x; blocks keep memory at n times the block's size."""
    wide_y = np.asarray(y, dtype=np.float64)
    rows, columns = [], np.zeros(len(y))
    for start in range(0, len(x), _BLOCK):
        kernel = _kernel(np.asarray(x[start : start + _BLOCK], dtype=np.float64) @ wide_y.T, x.shape[1])
        rows.append(kernel.sum(axis=1))
        columns += kernel.sum(axis=0)
    return np.concatenate(rows), columns


def _diagonal(x: Features) -> Matrix:
    wide = np.asarray(x, dtype=np.float64)
    return _kernel((wide * wide).sum(axis=1), x.shape[1])


def _kernel(products: Matrix, dimensions: int) -> Matrix:
    base = products / dimensions + 1
    return np.asarray(base * base * base)
