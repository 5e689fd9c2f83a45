"""The threshold for a stated miss rate, from scores of images that the scoring model was not fitted on.

The bound of the miss rate holds although the threshold is chosen on the same images: where the threshold lies just under the (k+1)-th
smallest of the n people's scores, the true miss rate is distributed as Beta(k+1, n-k) (the order statistic of a uniform sample; Wilks,
1941), whose 95 % quantile is Clopper and Pearson's upper bound for k of n (1934). A choice among smaller k only lowers the rate.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import beta

#: A band of doubt holds this share of either class that lies beyond the threshold's wrong side.
_DOUBT = 0.02


@dataclass(frozen=True)
class Threshold:
    """An operating point."""

    value: float
    #: The share of people below it, on the held-out images.
    miss_rate: float
    #: One-sided upper 95 % confidence bound of that share (Clopper and Pearson, 1934).
    miss_rate_bound: float
    #: The share of images without people that it lets through.
    false_alarm_rate: float
    #: Scores in this interval are uncertain: a person should look.
    band: tuple[float, float]
    #: Held-out images with and without people.
    people: int
    none: int
    #: The bound itself keeps the stated rate: on new images like these, more are missed with a chance of at most 5 %.
    promised: bool = False


def choose_threshold(scores: NDArray[np.float64], people: NDArray[np.bool_], miss_rate: float, *, promise: bool = False) -> Threshold:
    """The threshold that misses at most ``miss_rate`` of the people, and among those errs least.

    "Least" is the mean of miss rate and false-alarm rate (balanced error), so that separable classes are not parted inside one of
    them only because the stated rate allows it. The threshold lies in the middle between the two scores that it parts.

    Args:
        scores: of held-out images, in [0, 1].
        people: which of them show people; both kinds must be there.
        miss_rate: the largest share of people that may be missed, in [0, 1).
        promise: the upper bound must keep the stated rate, not only the share that was seen. Where there are too few people for any
            promise (fewer than 59 for a rate of 5 %), the share that was seen decides, and ``Threshold.promised`` says so.
    """
    positive, negative = np.sort(scores[people]), np.sort(scores[~people])
    levels = np.unique(np.concatenate([[0.0], scores, [1.0]]))
    cuts = (levels[1:] + levels[:-1]) / 2
    missed = np.searchsorted(positive, cuts) / len(positive)
    passed = 1 - np.searchsorted(negative, cuts) / len(negative)
    # A cut below every score misses nobody: there is always one.
    counts = np.round(missed * len(positive)).astype(int)
    kept = np.array([upper_bound(count, len(positive)) for count in range(counts.max() + 1)])[counts] <= miss_rate
    promised = promise and bool(kept.any())
    allowed = kept if promised else missed <= miss_rate
    if not allowed.any():
        allowed = missed == missed.min()
    error = np.where(allowed, missed + passed, np.inf)
    best = int(np.argmin(error))
    value = float(cuts[best])
    low, high = float(np.quantile(positive, _DOUBT)), float(np.quantile(negative, 1 - _DOUBT))
    return Threshold(
        value=value,
        miss_rate=float(missed[best]),
        miss_rate_bound=upper_bound(int((positive < value).sum()), len(positive)),
        false_alarm_rate=float(passed[best]),
        band=(min(low, value), max(high, value)),
        people=len(positive),
        none=len(negative),
        promised=promised,
    )


def upper_bound(events: int, n: int, confidence: float = 0.95) -> float:
    """The one-sided Clopper-Pearson upper bound of a rate seen as ``events`` of ``n``."""
    return 1.0 if events >= n else float(beta.ppf(confidence, events + 1, n - events))
