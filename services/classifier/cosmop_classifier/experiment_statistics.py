"""Paired intervals over test images and seeds at once.

Two things could have been others: the test images, and the seeds (which training images, which synthetic ones). Each resample therefore
draws both, with replacement and independently: near-duplicate groups of the test split, and seeds. A measure is computed for each seed on
the drawn images, averaged over the drawn seeds, and the average of real images alone, on the same images and the same seeds, is taken off.
The interval is the middle 95 % of these differences.

Source: Owen, "The pigeonhole bootstrap", Annals of Applied Statistics 1 (2007): for crossed factors, and a little too wide rather than
too narrow.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from cosmop_common.records import Value
from numpy.typing import NDArray

from cosmop_classifier.measures import bounds, wilson

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

MEASURES = ("auroc", "average_precision", "precision", "recall", "accuracy", "f1")
RESAMPLES = 1000
METHOD = "pigeonhole bootstrap"
#: Weights in work at once: several arrays of this size are alive together.
_CELLS = 4_000_000
_ROUNDING = 1e-9


@dataclass(frozen=True)
class Draws:
    """The same resamples for every model, so that differences are paired.

    Attributes:
        images: weights of the test images, (1 + b, n); the first row is all ones.
        seeds: weights of the seeds, (1 + b, s); rows sum to 1, the first is all equal.
    """

    images: Floats
    seeds: Floats

    @classmethod
    def make(cls, groups: Sequence[str], seeds: int, *, resamples: int = RESAMPLES, seed: int = 0) -> Draws:
        """Draws near-duplicate groups and seeds."""
        rng = np.random.default_rng(seed)
        _, member = np.unique(np.asarray(groups), return_inverse=True)
        count = int(member.max()) + 1
        drawn = rng.multinomial(count, np.full(count, 1 / count), size=resamples).astype(np.float64)[:, member]
        chosen = rng.multinomial(seeds, np.full(seeds, 1 / seeds), size=resamples) / seeds
        return cls(np.concatenate([np.ones((1, len(member))), drawn]), np.concatenate([np.full((1, seeds), 1 / seeds), chosen]))

    def average(self, by_seed: Sequence[Floats]) -> Floats:
        """Mean over the drawn seeds of one value for each draw, (1 + b,); a draw in which a seed has no value has none."""
        values = np.stack(by_seed, axis=1)
        # A seed that was not drawn may be undefined.
        return np.asarray(np.where(self.seeds > 0, self.seeds * values, 0.0).sum(axis=1))


def measure_draws(truth: Bools, called: Bools, score: Floats, weights: Floats) -> dict[str, Floats]:
    """Each measure of one model under each row of weights; NaN where it is not defined.

    Args:
        truth: (n,), whether each test image is positive.
        called: (n,), whether it was called positive.
        score: (n,), higher is more positive; ties count half in AUROC.
        weights: (b, n).
    """
    block = max(1, _CELLS // max(1, len(truth)))
    if len(weights) > block:
        parts = [measure_draws(truth, called, score, weights[start : start + block]) for start in range(0, len(weights), block)]
        return {name: np.concatenate([part[name] for part in parts]) for name in MEASURES}
    order = np.argsort(score, kind="stable")
    starts = np.nonzero(np.concatenate([[True], np.diff(score[order]) != 0]))[0]
    t, c = truth.astype(np.float64), called.astype(np.float64)
    hits, positives, said, total = weights @ (t * c), weights @ t, weights @ c, weights.sum(axis=1)
    negatives = total - positives
    by_score = weights[:, order]
    pos = np.add.reduceat(by_score * t[order], starts, axis=1)
    neg = np.add.reduceat(by_score * (1 - t[order]), starts, axis=1)
    below = np.cumsum(neg, axis=1) - neg
    above_pos, above = (np.cumsum(x[:, ::-1], axis=1)[:, ::-1] for x in (pos, pos + neg))
    with np.errstate(divide="ignore", invalid="ignore"):
        return {
            "auroc": (pos * (below + 0.5 * neg)).sum(axis=1) / (positives * negatives),
            "average_precision": (pos * above_pos / np.maximum(above, 1e-12)).sum(axis=1) / positives,
            "precision": hits / said,
            "recall": hits / positives,
            "accuracy": (2 * hits + negatives - said) / total,
            "f1": 2 * hits / (said + positives),
        }


def value_of(draws: Floats, n: int) -> Value:
    """A value whose first draw is the point estimate."""
    point = float(draws[0])
    if not np.isfinite(point):
        return Value(value=None, n=n)
    return Value(value=point, interval=bounds(draws[1:]), n=n, method=METHOD)


def share_called(called: Mapping[int, Sequence[bool]] | Sequence[Sequence[bool]], *, resamples: int = RESAMPLES, seed: int = 0) -> Value:
    """The share of images that models of several seeds call positive, with an interval over images and seeds.

    Args:
        called: for each seed, one word for each of the same n images.
    """
    table = np.array(list(called.values()) if isinstance(called, Mapping) else list(called), dtype=np.float64)
    seeds, n = table.shape
    if not n:
        return Value(value=None, n=0)
    rng = np.random.default_rng(seed)
    images = rng.multinomial(n, np.full(n, 1 / n), size=resamples) / n
    chosen = rng.multinomial(seeds, np.full(seeds, 1 / seeds), size=resamples) / seeds
    draws = np.einsum("bs,sn,bn->b", chosen, table, images, optimize=True)
    share = float(table.mean())
    interval = bounds(draws)
    if interval is None or interval[1] - interval[0] < _ROUNDING:
        # All or none: a bootstrap has nothing to say.
        return Value(value=share, interval=wilson(share * n, n), n=n, method="wilson")
    return Value(value=share, interval=interval, n=n, method=METHOD)


def verdict(difference: Value) -> str:
    """What an interval of the difference allows to say."""
    if difference.value is None or difference.interval is None:
        return "no difference could be shown"
    low, high = difference.interval
    return "helps" if low > 0 else "hurts" if high < 0 else "no difference could be shown"
