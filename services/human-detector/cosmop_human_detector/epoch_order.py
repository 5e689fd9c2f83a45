"""Which samples an epoch shows, in which order: a function of the seed and the epoch's number alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from cosmop_human_detector.samples import Sample


def epoch_order(samples: Sequence[Sample], seed: int, epoch: int) -> list[Sample]:
    """The samples of one epoch, both kinds in equal number: all of the rarer kind, and as many of the other, of which each epoch
    takes up where the one before it stopped.
    """  # noqa: D205 - one sentence
    kinds = [[s for s in samples if s.people == people] for people in (True, False)]
    count = min(map(len, kinds))
    drawn: list[Sample] = []
    for place, members in enumerate(kinds):
        start = (epoch - 1) * count
        walked = [(start + i) for i in range(count)]
        # Each walk through all of a kind has an order of its own.
        walks = {w: np.random.default_rng([seed, place, w]).permutation(len(members)) for w in {i // len(members) for i in walked}}
        drawn += [members[walks[i // len(members)][i % len(members)]] for i in walked]
    order = np.random.default_rng([seed, 2, epoch]).permutation(len(drawn))
    return [drawn[i] for i in order]


def batches(samples: Sequence[Sample], size: int) -> Iterator[Sequence[Sample]]:
    """Runs of ``size`` samples; the last may be shorter."""
    for start in range(0, len(samples), size):
        yield samples[start : start + size]
