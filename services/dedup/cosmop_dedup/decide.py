"""The rule: which images of a set are kept, and whose duplicates the others are.

Images are taken best first: most pixels, then most bytes, then the smallest sha256. One that is a copy of an image already
kept (within the distance of it, or in the grey zone and alike) is a duplicate of the nearest such, at equal distances of the
best; else it is kept. So the outcome is a function of the set alone, and clusters do not chain: every duplicate is a copy of
its kept image, not merely of another duplicate. Taken over a whole set this equals taking each connected component by itself,
since an image only ever asks about images within reach.
"""

from __future__ import annotations

import numpy as np
from cosmop_common.collection import DedupSettings
from numpy.typing import NDArray

from cosmop_dedup.search import BITS, HashSearch, Hits, pair_distances
from cosmop_dedup.similarity import Embeddings, reach

_BLOCK = 1024


def decide(hashes: NDArray[np.uint64], rule: DedupSettings, embeddings: Embeddings | None = None) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
    """Decides a whole set at once. Memory grows with images; time with images times kept ones, by a small factor.

    Args:
        hashes: shape (n, variants), best image first.
        rule: when two images are copies.
        embeddings: of the images, by their positions, where the rule has a grey zone.

    Returns:
        For each image the position of its kept image (its own where it is kept), and its distance to it.
    """
    embeddings = embeddings or Embeddings()
    if reach(rule) == 0 and hashes.shape[1] == 1:
        return _same_hash(hashes[:, 0])
    kept_of = np.empty(len(hashes), np.int64)
    bits = np.zeros(len(hashes), np.uint8)
    search = HashSearch(hashes.shape[1])
    kept = np.empty(0, np.int64)
    for start in range(0, len(hashes), _BLOCK):
        block = hashes[start : start + _BLOCK]
        hits = search.within(block, reach(rule))
        copies = embeddings.copies(hits.query + start, kept[hits.row], hits.distance, rule)
        nearest, least = _nearest_kept(Hits(hits.query[copies], kept[hits.row[copies]], hits.distance[copies]), len(block))
        new = _decide_block(_copies_within(block, start, rule, embeddings), start, nearest, least)
        kept_of[start : start + len(block)], bits[start : start + len(block)] = nearest, least
        search.add(block[new])
        kept = np.concatenate([kept, np.array(new, np.int64) + start])
    return kept_of, bits


def _copies_within(block: NDArray[np.uint64], start: int, rule: DedupSettings, embeddings: Embeddings) -> dict[int, list[tuple[int, int]]]:
    """For each image of a block its copies among the better ones, as (position in the block, distance)."""
    inner = pair_distances(block)
    worse, better = np.nonzero(np.tril(inner <= reach(rule), -1))
    bits = inner[worse, better].astype(np.int64)
    copies = embeddings.copies(worse + start, better + start, bits, rule)
    found: dict[int, list[tuple[int, int]]] = {}
    for i, j, distance in zip(worse[copies].tolist(), better[copies].tolist(), bits[copies].tolist(), strict=True):
        found.setdefault(i, []).append((j, distance))
    return found


def _decide_block(copies: dict[int, list[tuple[int, int]]], start: int, nearest: NDArray[np.int64], least: NDArray[np.int64]) -> list[int]:
    """Goes through a block in rank order, completing ``nearest`` and ``least``; returns the newly kept, within the block."""
    new: list[int] = []
    kept = np.zeros(len(nearest), bool)
    for i in range(len(nearest)):
        for j, bits in copies.get(i, ()):
            # New kept images rank behind those of earlier blocks: only a nearer one takes precedence.
            if kept[j] and bits < least[i]:
                nearest[i], least[i] = start + j, bits
        if nearest[i] < 0:
            new.append(i)
            kept[i] = True
            nearest[i], least[i] = start + i, 0
    return new


def _same_hash(hashes: NDArray[np.uint64]) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
    """At distance 0 the first of each hash is kept."""
    _, first, inverse = np.unique(hashes, return_index=True, return_inverse=True)
    return first[inverse].astype(np.int64), np.zeros(len(hashes), np.uint8)


def _nearest_kept(copies: Hits, images: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Each image's nearest copy so far, the best at equal distances: its position or -1, and its distance or 65."""
    nearest = np.full(images, -1, np.int64)
    least = np.full(images, BITS + 1, np.int64)
    # The last writer of a slot wins: copies go from the farthest and worst to the nearest and best.
    order = np.lexsort((copies.row, copies.distance))[::-1]
    nearest[copies.query[order]] = copies.row[order]
    least[copies.query[order]] = copies.distance[order]
    return nearest, least
