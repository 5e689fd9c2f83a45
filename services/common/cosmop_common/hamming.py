"""Hamming distances between 64-bit perceptual hashes, and the groups of near-duplicates that they make."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_BLOCK = 2048


def distances(query: int, hashes: NDArray[np.uint64]) -> NDArray[np.uint8]:
    """Bits in which ``query`` differs from each of ``hashes``; shape as ``hashes``."""
    counts: NDArray[np.uint8] = np.bitwise_count(hashes ^ np.uint64(query))
    return counts


def near_pairs(hashes: NDArray[np.uint64], distance: int) -> NDArray[np.int64]:
    """All pairs (i, j), i < j, within ``distance``: shape (pairs, 2). Exact, in blocks; time grows with n^2."""
    found = []
    for start in range(0, len(hashes), _BLOCK):
        rows = hashes[start : start + _BLOCK, None]
        for column in range(start, len(hashes), _BLOCK):
            close = np.bitwise_count(rows ^ hashes[None, column : column + _BLOCK]) <= distance
            i, j = np.nonzero(close)
            keep = i + start < j + column
            found.append(np.stack([i[keep] + start, j[keep] + column], axis=1))
    return np.concatenate(found).astype(np.int64) if found else np.zeros((0, 2), np.int64)


def near_groups(hashes: NDArray[np.uint64], distance: int) -> NDArray[np.int64]:
    """The connected component of each hash: shape (n,), each component named by its smallest index."""
    parent = np.arange(len(hashes))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    for i, j in near_pairs(hashes, distance):
        a, b = root(int(i)), root(int(j))
        if a != b:
            parent[max(a, b)] = min(a, b)
    return np.array([root(i) for i in range(len(hashes))], dtype=np.int64)
