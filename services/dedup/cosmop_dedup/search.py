"""Exact search among hashes by Hamming distance, over a list that grows.

Most of the list is in a ``MultiIndex``; what was added since that was made is scanned, until it is a sixteenth of the whole. A
picture can have several hashes (its flips and rotations); the distance between two pictures is then the least one between
one's own hash and any of the other's.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cosmop_dedup.growing import GrowingArray
from cosmop_dedup.multi_index import BITS, MultiIndex, Pairs, concatenate, scan

__all__ = ["BITS", "HashSearch", "Hits", "near_pairs", "pair_distances"]

#: A tail up to this long, or this share of the list, is scanned.
_TAIL, _TAIL_SHARE = 2048, 16


@dataclass(frozen=True)
class Hits:
    """Pairs within a distance: arrays of equal length."""

    #: Index of the query.
    query: NDArray[np.int64]
    #: Row of what was found.
    row: NDArray[np.int64]
    #: Bits in which they differ.
    distance: NDArray[np.int64]


class HashList:
    """A growing list of single hashes that can be searched."""

    def __init__(self) -> None:
        self._hashes = GrowingArray(np.uint64)
        self._index: MultiIndex | None = None

    def __len__(self) -> int:
        return len(self._hashes)

    @property
    def nbytes(self) -> int:
        """Bytes of hashes and tables."""
        return self._hashes.nbytes + (self._index.nbytes if self._index else 0)

    def extend(self, hashes: NDArray[np.uint64]) -> None:
        """Appends hashes: shape (n,)."""
        self._hashes.extend(hashes)

    def within(self, queries: NDArray[np.uint64], distance: int) -> Pairs:
        """All rows within ``distance`` of each query (shape (m,)), each pair once, in no order."""
        hashes = self._hashes.rows
        done = len(self._index) if self._index else 0
        if len(hashes) - done > max(_TAIL, len(hashes) // _TAIL_SHARE):
            self._index, done = MultiIndex(hashes), len(hashes)
        pairs = self._index.within(queries, distance) if self._index else None
        if pairs is None:
            return scan(hashes, queries, distance)
        tail = scan(hashes[done:], queries, distance)
        return concatenate([pairs, (tail[0], tail[1] + done, tail[2])])


class HashSearch:
    """A growing list of pictures' hashes; rows are numbered in the order of their adding.

    Args:
        variants: hashes of each picture: 1, or 8 where flips and rotations count.
    """

    def __init__(self, variants: int = 1) -> None:
        self._turns = variants - 1
        self._own = HashList()
        self._turned = HashList()

    def __len__(self) -> int:
        return len(self._own)

    @property
    def nbytes(self) -> int:
        """Bytes that hashes and tables take."""
        return self._own.nbytes + self._turned.nbytes

    def add(self, hashes: NDArray[np.uint64]) -> None:
        """Appends pictures. ``hashes``: shape (n, variants), each picture's own hash first."""
        self._own.extend(hashes[:, 0])
        if self._turns:
            self._turned.extend(hashes[:, 1:].reshape(-1))

    def within(self, hashes: NDArray[np.uint64], distance: int) -> Hits:
        """All rows within ``distance`` of each query, in no order, each pair once.

        Args:
            hashes: shape (n, 1), or (n, 8) to let the queries' turned pictures count.
            distance: 0 to 64, inclusive.
        """
        found = [self._own.within(hashes[:, 0], distance)]
        turns = hashes.shape[1] - 1
        if not turns:
            return Hits(*found[0])
        query, row, bits = self._own.within(hashes[:, 1:].reshape(-1), distance)
        found.append((query // turns, row, bits))
        if self._turns:
            query, row, bits = self._turned.within(hashes[:, 0], distance)
            found.append((query, row // self._turns, bits))
        return _least(*concatenate(found))


def pair_distances(hashes: NDArray[np.uint64]) -> NDArray[np.uint8]:
    """Distances among a few pictures: (n, variants) -> (n, n), symmetric."""
    own = hashes[:, 0]
    least = np.bitwise_count(own[:, None] ^ own[None, :])
    for turn in range(1, hashes.shape[1]):
        turned = np.bitwise_count(own[:, None] ^ hashes[None, :, turn])
        least = np.minimum(least, np.minimum(turned, turned.T))
    np.fill_diagonal(least, 0)
    return np.asarray(least)


def near_pairs(hashes: NDArray[np.uint64], distance: int, *, block: int = 4096) -> NDArray[np.int64]:
    """All pairs (i, j), i < j, within ``distance``, each once: (n,) -> (pairs, 2). Exact."""
    search = HashList()
    search.extend(hashes)
    found = [np.zeros((0, 2), np.int64)]
    for start in range(0, len(hashes), block):
        query, row, _ = search.within(hashes[start : start + block], distance)
        later = row > query + start
        found.append(np.stack([query[later] + start, row[later]], axis=1))
    return np.concatenate(found)


def _least(query: NDArray[np.int64], row: NDArray[np.int64], distance: NDArray[np.int64]) -> Hits:
    """Each pair once, with its least distance."""
    order = np.lexsort((distance, row, query))
    query, row, distance = query[order], row[order], distance[order]
    first = np.ones(len(query), bool)
    first[1:] = (query[1:] != query[:-1]) | (row[1:] != row[:-1])
    return Hits(query[first], row[first], distance[first])
