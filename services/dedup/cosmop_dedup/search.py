"""Exact search among hashes by Hamming distance.

faiss' flat binary index, chosen by measuring (docs/benchmarks.md): a scan by NumPy's popcount needs twice its time, and
trees and multi-index hashing lose at the distances of interest. A picture can have several hashes (its flips and
rotations); the distance between two pictures is then the least one between one's own hash and any of the other's.
"""

from __future__ import annotations

from dataclasses import dataclass

import faiss
import numpy as np
from numpy.typing import NDArray

BITS = 64


@dataclass(frozen=True)
class Hits:
    """Pairs within a distance: arrays of equal length."""

    #: Index of the query.
    query: NDArray[np.int64]
    #: Row of what was found.
    row: NDArray[np.int64]
    #: Bits in which they differ.
    distance: NDArray[np.int64]


class HashSearch:
    """A growing list of pictures' hashes; rows are numbered in the order of their adding.

    Args:
        variants: hashes of each picture: 1, or 8 where flips and rotations count.
    """

    def __init__(self, variants: int = 1) -> None:
        self._variants = variants
        self._own = faiss.IndexBinaryFlat(BITS)
        self._turned = faiss.IndexBinaryFlat(BITS) if variants > 1 else None

    def __len__(self) -> int:
        return int(self._own.ntotal)

    @property
    def nbytes(self) -> int:
        """Bytes that the hashes take."""
        turned = self._turned.ntotal if self._turned is not None else 0
        return int(self._own.ntotal + turned) * BITS // 8

    def add(self, hashes: NDArray[np.uint64]) -> None:
        """Appends pictures. ``hashes``: shape (n, variants), each picture's own hash first."""
        self._own.add(_codes(hashes[:, 0]))
        if self._turned is not None:
            self._turned.add(_codes(hashes[:, 1:]))

    def within(self, hashes: NDArray[np.uint64], distance: int) -> Hits:
        """All rows within ``distance`` of each query, in no order, each pair once.

        Args:
            hashes: shape (n, 1), or (n, 8) to let the queries' turned pictures count.
            distance: 0 to 64, inclusive.
        """
        found = [_range(self._own, hashes[:, 0], distance)]
        turns = hashes.shape[1] - 1
        if turns:
            query, row, bits = _range(self._own, hashes[:, 1:].reshape(-1), distance)
            found.append((query // turns, row, bits))
        if turns and self._turned is not None:
            query, row, bits = _range(self._turned, hashes[:, 0], distance)
            found.append((query, row // (self._variants - 1), bits))
        if not turns:
            return Hits(*found[0])
        return _least(*(np.concatenate(parts) for parts in zip(*found, strict=True)))


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
    """All pairs (i, j), i < j, within ``distance``, each once: (n,) -> (pairs, 2). Exact; time grows with n^2 / 2."""
    search = HashSearch()
    found = []
    for start in range(0, len(hashes), block):
        rows = hashes[start : start + block, None]
        hits = search.within(rows, distance)
        found.append(np.stack([hits.row, hits.query + start], axis=1))
        own = HashSearch()
        own.add(rows)
        hits = own.within(rows, distance)
        keep = hits.row < hits.query
        found.append(np.stack([hits.row[keep], hits.query[keep]], axis=1) + start)
        search.add(rows)
    return np.concatenate(found) if found else np.zeros((0, 2), np.int64)


def _codes(hashes: NDArray[np.uint64]) -> NDArray[np.uint8]:
    return np.ascontiguousarray(hashes, dtype=np.uint64).reshape(-1, 1).view(np.uint8)


def _range(index: faiss.IndexBinaryFlat, hashes: NDArray[np.uint64], distance: int) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    if not index.ntotal or not len(hashes):
        empty = np.zeros(0, np.int64)
        return empty, empty, empty
    # faiss means strictly less than its radius.
    limits, bits, rows = index.range_search(_codes(hashes), distance + 1)
    limits = np.asarray(limits, dtype=np.int64)
    query = np.repeat(np.arange(len(hashes)), limits[1:] - limits[:-1])
    return query, rows.astype(np.int64), bits.astype(np.int64)


def _least(query: NDArray[np.int64], row: NDArray[np.int64], distance: NDArray[np.int64]) -> Hits:
    """Each pair once, with its least distance."""
    order = np.lexsort((distance, row, query))
    query, row, distance = query[order], row[order], distance[order]
    first = np.ones(len(query), bool)
    first[1:] = (query[1:] != query[:-1]) | (row[1:] != row[:-1])
    return Hits(query[first], row[first], distance[first])
