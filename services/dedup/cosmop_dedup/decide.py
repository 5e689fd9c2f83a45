"""The rule: which images of a set are kept, and whose duplicates the others are.

Images are taken best first: most pixels, then most bytes, then the smallest sha256. One that lies within the distance
of an image already kept is a duplicate of the nearest such (at equal distances: of the best); else it is kept. So the
outcome is a function of the set alone, and clusters do not chain: every duplicate is near its kept image, not merely
near another duplicate. Taken over a whole set this equals taking each connected component by itself, since an image
only ever asks about images within the distance.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cosmop_dedup.search import HashSearch, pair_distances

_BLOCK = 1024


def decide(hashes: NDArray[np.uint64], distance: int) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
    """Decides a whole set at once.

    Time grows with images times kept images; memory with images.

    Args:
        hashes: shape (n, variants), best image first.
        distance: 0 to 64.

    Returns:
        For each image the position of its kept image (its own where it is kept), and its distance to it.
    """
    if distance == 0 and hashes.shape[1] == 1:
        return _same_hash(hashes[:, 0])
    kept_of = np.empty(len(hashes), np.int64)
    bits = np.zeros(len(hashes), np.uint8)
    search = HashSearch(hashes.shape[1])
    kept = np.empty(0, np.int64)
    for start in range(0, len(hashes), _BLOCK):
        block = hashes[start : start + _BLOCK]
        nearest, least = _nearest_kept(search, kept, block, distance)
        new = _decide_block(block, distance, start, nearest, least)
        kept_of[start : start + len(block)], bits[start : start + len(block)] = nearest, least
        search.add(block[new])
        kept = np.concatenate([kept, np.array(new, np.int64) + start])
    return kept_of, bits


def _decide_block(block: NDArray[np.uint64], distance: int, start: int, nearest: NDArray[np.int64], least: NDArray[np.int64]) -> list[int]:
    """Goes through a block in rank order, completing ``nearest`` and ``least``; returns the newly kept, within the block."""
    inner = pair_distances(block)
    near: dict[int, list[int]] = {}
    for i, j in np.argwhere(np.tril(inner <= distance, -1)).tolist():
        near.setdefault(i, []).append(j)
    new: list[int] = []
    kept = np.zeros(len(block), bool)
    for i in range(len(block)):
        for j in near.get(i, ()):
            # New kept images rank behind those of earlier blocks: only a nearer one takes precedence.
            if kept[j] and inner[i, j] < least[i]:
                nearest[i], least[i] = start + j, inner[i, j]
        if nearest[i] < 0:
            new.append(i)
            kept[i] = True
            nearest[i], least[i] = start + i, 0
    return new


def _same_hash(hashes: NDArray[np.uint64]) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
    """At distance 0 the first of each hash is kept."""
    _, first, inverse = np.unique(hashes, return_index=True, return_inverse=True)
    return first[inverse].astype(np.int64), np.zeros(len(hashes), np.uint8)


def _nearest_kept(search: HashSearch, kept: NDArray[np.int64], block: NDArray[np.uint64], distance: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Each image's nearest kept image so far, the best at equal distances: its position or -1, and its distance or 65."""
    nearest = np.full(len(block), -1, np.int64)
    least = np.full(len(block), 65, np.int64)
    hits = search.within(block, distance)
    # The last writer of a slot wins: hits go from the farthest and worst to the nearest and best.
    order = np.lexsort((hits.row, hits.distance))[::-1]
    nearest[hits.query[order]] = kept[hits.row[order]]
    least[hits.query[order]] = hits.distance[order]
    return nearest, least
