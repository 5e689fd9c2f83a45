"""Multi-index hashing: exact search by Hamming distance that looks at a few candidates instead of at everything.

Norouzi, Punjani, Fleet, "Fast Exact Search in Hamming Space with Multi-Index Hashing" (TPAMI 2014), sections 3 and 3.2. A hash is
four chunks of 16 bits. Give each chunk a radius so that the sum of (radius + 1) is distance + 1: two hashes within the
distance must then agree within its radius in some chunk, or they would differ in more bits than the distance. So each chunk has
a table of its 65,536 values, and a query looks into the few hundred buckets around its own value.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

BITS = 64
_CHUNK_BITS, _CHUNKS = 16, 4
_VALUES = 1 << _CHUNK_BITS
#: What a bucket and a candidate cost, in hashes that a scan passes in that time (measured).
_BUCKET_COST, _CANDIDATE_COST = 3, 8
#: Buckets, and candidates, that are held at once: bounds the memory of a batch.
_AT_ONCE = 1 << 18

Pairs = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]


class MultiIndex:
    """Tables over a fixed array of hashes, which they refer to and do not copy: 16 bytes a hash, and 1 MB.

    Args:
        hashes: uint64, shape (n,), contiguous; must not change. n is below 2^29.
    """

    def __init__(self, hashes: NDArray[np.uint64]) -> None:
        self._hashes = hashes
        chunks = _chunks(hashes)
        #: All rows, once for each chunk, sorted by its value there.
        self._rows = np.empty(_CHUNKS * len(hashes), np.int32)
        #: Where the rows of each value of each chunk begin; one more for each chunk, where its last end.
        self._starts = np.empty(_CHUNKS * (_VALUES + 1), np.int32)
        for number in range(_CHUNKS):
            first = number * len(hashes)
            self._rows[first : first + len(hashes)] = np.argsort(chunks[:, number], kind="stable")
            starts = self._starts[number * (_VALUES + 1) :][: _VALUES + 1]
            starts[0] = first
            starts[1:] = first + np.cumsum(np.bincount(chunks[:, number], minlength=_VALUES))

    def __len__(self) -> int:
        return len(self._hashes)

    @property
    def nbytes(self) -> int:
        """Bytes of the tables."""
        return self._rows.nbytes + self._starts.nbytes

    def within(self, queries: NDArray[np.uint64], distance: int) -> Pairs | None:
        """All hashes within ``distance`` of each query, each pair once: positions in ``queries`` and ``hashes``, and bits.

        Returns None where a scan would be faster: the distance is large, or the buckets are crowded.
        """
        if _bucket_count(distance) * _BUCKET_COST > len(self):
            return None
        probes = _probes(distance)
        step = max(1, _AT_ONCE // len(probes.masks))
        found = []
        for start in range(0, len(queries), step):
            pairs = self._look(queries[start : start + step], distance, probes)
            if pairs is None:
                return None
            found.append((pairs[0] + start, pairs[1], pairs[2]))
        return concatenate(found)

    def _look(self, queries: NDArray[np.uint64], distance: int, probes: _Probes) -> Pairs | None:
        buckets = (_chunks(queries)[:, probes.chunks] ^ probes.masks) + probes.offsets
        begin = self._starts[buckets]
        lengths = self._starts[buckets + 1] - begin
        each = lengths.sum(axis=1)
        candidates = int(each.sum())
        if candidates * _CANDIDATE_COST > len(self) * len(queries):
            return None
        if candidates > _AT_ONCE and len(queries) > 1:
            half = len(queries) // 2
            first, second = (self._look(part, distance, probes) for part in (queries[:half], queries[half:]))
            return None if first is None or second is None else concatenate([first, (second[0] + half, second[1], second[2])])
        lengths = lengths.reshape(-1)
        # Candidate p of all lies in some bucket b, at place begin[b] + p - (how many candidates the buckets before b hold).
        places = np.repeat(begin.reshape(-1) - (np.cumsum(lengths) - lengths), lengths) + np.arange(candidates)
        rows = self._rows[places]
        query = np.repeat(np.arange(len(queries)), each)
        bits = np.bitwise_count(self._hashes[rows] ^ queries[query])
        near = np.flatnonzero(bits <= distance)
        return _once((query[near], rows[near].astype(np.int64), bits[near].astype(np.int64)), len(self))


@dataclass(frozen=True)
class _Probes:
    """The buckets that a query looks into: one entry each."""

    #: Number of the chunk.
    chunks: NDArray[np.intp]
    #: What the query's value of that chunk is changed by: uint16.
    masks: NDArray[np.uint16]
    #: Where the chunk's part of the table of beginnings starts.
    offsets: NDArray[np.int32]


@cache
def _probes(distance: int) -> _Probes:
    masks = [_masks(radius) for radius in chunk_radii(distance)]
    chunks = np.repeat(np.arange(len(masks)), [len(m) for m in masks])
    return _Probes(chunks, np.concatenate(masks), (chunks * (_VALUES + 1)).astype(np.int32))


def _bucket_count(distance: int) -> int:
    return sum(math.comb(_CHUNK_BITS, ones) for radius in chunk_radii(distance) for ones in range(radius + 1))


def chunk_radii(distance: int) -> list[int]:
    """The radius of each chunk that must be looked at: the sum of (radius + 1) is ``distance`` + 1."""
    chunks = min(_CHUNKS, distance + 1)
    each, more = divmod(distance + 1 - chunks, chunks)
    return [each + (number < more) for number in range(chunks)]


def scan(hashes: NDArray[np.uint64], queries: NDArray[np.uint64], distance: int) -> Pairs:
    """The same by looking at everything, in blocks that stay in the processor's cache."""
    found = []
    rows_at_once = 1 << 15
    queries_at_once = max(1, rows_at_once // max(1, min(len(hashes), rows_at_once)))
    for first in range(0, len(queries), queries_at_once):
        block = queries[first : first + queries_at_once, None]
        for start in range(0, len(hashes), rows_at_once):
            bits = np.bitwise_count(hashes[None, start : start + rows_at_once] ^ block)
            query, row = np.nonzero(bits <= distance)
            if len(query):
                found.append((query + first, row + start, bits[query, row].astype(np.int64)))
    return concatenate(found)


def concatenate(parts: list[Pairs]) -> Pairs:
    """Several lists of pairs as one."""
    if len(parts) == 1:
        return parts[0]
    empty = np.zeros(0, np.int64)
    return tuple(np.concatenate([empty, *column]) for column in zip(*parts, strict=True)) if parts else (empty, empty, empty)  # type: ignore[return-value]


def _once(pairs: Pairs, width: int) -> Pairs:
    """Each pair once: two hashes can meet in several chunks."""
    _, first = np.unique(pairs[0] * width + pairs[1], return_index=True)
    return pairs[0][first], pairs[1][first], pairs[2][first]


def _chunks(hashes: NDArray[np.uint64]) -> NDArray[np.uint16]:
    """Shape (n, 4). Which bits make a chunk is no matter, so the machine's byte order is not either."""
    return np.ascontiguousarray(hashes).view(np.uint16).reshape(-1, _CHUNKS)


def _masks(radius: int) -> NDArray[np.uint16]:
    """All 16-bit values of at most ``radius`` ones."""
    ones = itertools.chain.from_iterable(itertools.combinations(range(_CHUNK_BITS), count) for count in range(radius + 1))
    return np.array([sum(1 << bit for bit in bits) for bits in ones], np.uint16)
