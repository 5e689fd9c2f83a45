"""PatchCore within a memory bound: patches of the training images' feature maps, a coreset of them, nearest neighbours.

anomalib's PatchCore holds every patch of every image before it chooses, and dies at about 4,000 images (its issue 2016). Here
patches pass through a reservoir of fixed size, from which the coreset is chosen: memory is the same for 400 images and 400,000.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cosmop_classifier.banks import PatchHead, patches
from cosmop_classifier.heads import Array, Features
from cosmop_classifier.oneclass import OneClassFit, cut, enough, rule

#: Of the memory, what the bank takes; the reservoir it is chosen from takes the rest.
_BANK_SHARE = 0.1
#: Dimensions of the random projection in which the coreset is chosen (PatchCore, section 3.2).
_PROJECTED = 32
#: The farthest share of an image's patches that counts.
_SHARE = 0.5
#: Images kept out of the reservoir, on which the threshold is chosen.
_HELD_OUT = 0.2
_MOST_HELD_OUT = 256


class Patches:
    """Give it feature maps chunk by chunk (``learn``), then ``finish``."""

    def __init__(self, images: int, *, memory: int = 256, keep: float = 0.9, seed: int = 0) -> None:
        """Prepares for so many images.

        Args:
            images: how many will come.
            memory: bound of reservoir and bank together, MiB.
            keep: the share of images held out that the threshold keeps.
        """
        enough(images)
        self._memory, self._keep = memory * 2**20, keep
        self._rng = np.random.default_rng(seed)
        held = min(_MOST_HELD_OUT, max(1, round(images * _HELD_OUT)))
        self._held = set(self._rng.permutation(images)[:held].tolist())
        self._kept: list[NDArray[np.float16]] = []
        self._seen = self._images = 0
        self._reservoir = np.zeros((0, 0), np.float32)

    def learn(self, feature_map: Array) -> None:
        """Further images, (n, c, h, w)."""
        for image in feature_map:
            if self._images in self._held:
                self._kept.append(image.astype(np.float16))
            else:
                self._sample(patches(image[None])[0])
            self._images += 1

    def finish(self) -> OneClassFit:
        """Chooses the coreset, and the threshold on the images held out."""
        filled = self._reservoir[: min(self._seen, len(self._reservoir))]
        size = max(1, min(len(filled), int(self._memory * _BANK_SHARE) // (4 * filled.shape[1])))
        head = PatchHead(filled[coreset(filled, size, self._rng)], _SHARE)
        scores = np.concatenate([head.score(Features(np.zeros((1, 0), np.float32), image[None].astype(np.float32))) for image in self._kept])
        details = {"patches_seen": self._seen, "reservoir": len(filled), "coreset": size, "memory_mib": self._memory // 2**20, "share": _SHARE}
        return OneClassFit(head, cut(scores, self._keep), rule(self._keep, "of a fifth that were held out"), details)

    def _sample(self, new: Array) -> None:
        """Reservoir sampling (Vitter's algorithm R): every patch seen is in it with the same chance."""
        if not len(self._reservoir):
            # A row, its projection, and three numbers of the greedy search.
            rows = max(1, int(self._memory * (1 - _BANK_SHARE)) // (4 * (new.shape[1] + _PROJECTED + 3)))
            self._reservoir = np.zeros((rows, new.shape[1]), np.float32)
        numbers = self._seen + np.arange(len(new))
        places = np.where(numbers < len(self._reservoir), numbers, self._rng.integers(numbers + 1))
        lucky = places < len(self._reservoir)
        self._reservoir[places[lucky]] = new[lucky]
        self._seen += len(new)


def coreset(rows: Array, size: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Places of a greedy k-centre coreset: each next row is the farthest from those chosen (Sener and Savarese, ICLR 2018).

    Distances are those after a random projection to a few dimensions, as PatchCore's; (n, 32) floats are held beside.
    """
    if size >= len(rows):
        return np.arange(len(rows))
    projection = rng.standard_normal((rows.shape[1], _PROJECTED)).astype(np.float32) / np.float32(np.sqrt(_PROJECTED))
    small = rows @ projection
    squares = (small**2).sum(axis=1)
    chosen = np.zeros(size, np.int64)
    chosen[0] = rng.integers(len(rows))
    nearest = np.full(len(rows), np.inf, np.float32)
    for number in range(1, size):
        last = chosen[number - 1]
        np.minimum(nearest, squares + squares[last] - 2 * (small @ small[last]), out=nearest)
        nearest[last] = -np.inf
        chosen[number] = int(np.argmax(nearest))
    return np.sort(chosen)


def fit_patches(feature_map: Array | NDArray[np.float16], *, memory: int = 256, keep: float = 0.9, seed: int = 0) -> OneClassFit:
    """``Patches`` of images that are in memory, (n, c, h, w)."""
    fitting = Patches(len(feature_map), memory=memory, keep=keep, seed=seed)
    for start in range(0, len(feature_map), 64):
        fitting.learn(feature_map[start : start + 64].astype(np.float32))
    return fitting.finish()
