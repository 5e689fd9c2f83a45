"""95 % intervals: what a measure would vary by if both sets were drawn again, at the same N.

None of them speaks of the bias: a Frechet distance of few images is too large, whatever its interval. See ``extrapolation``.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from cosmop_fid_evaluator.frechet import Distance
from cosmop_fid_evaluator.moments import Features

#: 97.5 % quantile of the standard normal distribution.
Z95 = 1.959963984540054

Interval = tuple[float, float]


def normal_interval(value: float, standard_error: float, *, at_least: float = -math.inf) -> Interval:
    """``value`` plus and minus 1.96 standard errors, cut at what the measure cannot be below."""
    return max(at_least, value - Z95 * standard_error), value + Z95 * standard_error


def influence_interval(distance: Distance) -> Interval:
    """Delta-method interval of a Frechet distance from its influence function (van der Vaart, Asymptotic Statistics, ch. 20).

    In simulation as wide as the distance scatters; with fewer images than features up to 1.5 times as wide, still nearer to
    the truth than the jackknife and the bootstrap.
    """
    return normal_interval(distance.value, distance.standard_error, at_least=0.0)


def bootstrap_interval(
    measure: Callable[[Features, Features], float], first: Features, second: Features, *, rounds: int = 200, seed: int = 0, at_least: float = 0.0
) -> Interval:
    """Bootstrap: both sets drawn again with replacement, ``rounds`` times; cut at what the measure cannot be below.

    The deviations are taken about the mean of the draws, not about the value: repeated images shift a Frechet distance
    upwards, and the percentile form would miss the value itself (Davison and Hinkley, Bootstrap Methods, section 5.2).
    """
    rng = np.random.default_rng(seed)
    value = measure(first, second)
    drawn = [measure(first[rng.integers(0, len(first), len(first))], second[rng.integers(0, len(second), len(second))]) for _ in range(rounds)]
    deviations = np.asarray(drawn) - np.mean(drawn)
    low, high = np.quantile(deviations, (0.025, 0.975))
    return max(at_least, float(value - high)), float(value - low)


def wilson_interval(hits: float, n: int) -> Interval:
    """Interval of a proportion: Wilson, "Probable inference", 1927. ``n`` >= 1."""
    share = hits / n
    centre = (share + Z95**2 / (2 * n)) / (1 + Z95**2 / n)
    half = Z95 / (1 + Z95**2 / n) * math.sqrt(share * (1 - share) / n + Z95**2 / (4 * n**2))
    return max(0.0, centre - half), min(1.0, centre + half)
