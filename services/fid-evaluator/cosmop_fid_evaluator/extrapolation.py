"""The Frechet distance at infinitely many images, extrapolated: what remains when its bias is taken away.

The bias falls as 1/N, so that distances of subsets, drawn over 1/N, lie on a line whose intercept is the distance at
N = infinity. Source: Chong and Forsyth, "Effectively Unbiased FID and Inception Score and where to find them", 2020, section 4.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cosmop_fid_evaluator.errors import TooFewImagesError
from cosmop_fid_evaluator.frechet import frechet_value
from cosmop_fid_evaluator.intervals import Interval, normal_interval
from cosmop_fid_evaluator.moments import Features

#: Sizes of subsets, as in the paper's code; the smallest is this share of the set.
_POINTS = 15
_SMALLEST = 0.4
_LEAST_IMAGES = 50


@dataclass(frozen=True)
class Extrapolated:
    """The intercept, and its interval from the scatter of the subsets about the line (not of redrawn images)."""

    value: float
    interval: Interval


def frechet_infinity(first: Features, second: Features, *, seed: int = 0) -> Extrapolated:
    """Frechet distance extrapolated to infinitely many images in both sets.

    Both sets are thinned to the same share, so that both biases fall together; the same seed gives the same number.

    Args:
        first, second: features, shapes (n1, d) and (n2, d), at least 50 rows each.
    """
    if min(len(first), len(second)) < _LEAST_IMAGES:
        raise TooFewImagesError(
            f"the distance of {len(first)} against {len(second)} images cannot be extrapolated: at least {_LEAST_IMAGES} are needed in each set"
        )
    rng = np.random.default_rng(seed)
    # Evenly spaced in 1 / share, where the line lives.
    inverse = np.linspace(1.0, 1.0 / _SMALLEST, _POINTS)
    values = np.asarray([frechet_value(_thinned(first, 1 / i, rng), _thinned(second, 1 / i, rng)) for i in inverse])
    design = np.column_stack([np.ones_like(inverse), inverse])
    solution, *_ = np.linalg.lstsq(design, values, rcond=None)
    residual = values - design @ solution
    covariance = np.linalg.inv(design.T @ design) * (residual @ residual) / (_POINTS - 2)
    value = float(solution[0])
    return Extrapolated(value, normal_interval(value, float(np.sqrt(covariance[0, 0]))))


def _thinned(features: Features, share: float, rng: np.random.Generator) -> Features:
    size = max(2, round(len(features) * share))
    return features[rng.permutation(len(features))[:size]]
