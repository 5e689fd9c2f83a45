"""Heads that compare with training images: kNN on pooled features, and patches of the feature map.

A large bank is divided into cells (an inverted file, as faiss's ``IndexIVFFlat``), kept as arrays: an image is compared with
the rows of the cells next to it and not with all. The bank of 100,000 images is then searched in about the time of 5,000.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from cosmop_classifier.head_base import Array, Features, Head, Scores, Tensors, unit

Rows = NDArray[np.int64]

#: Cells that an image is compared with.
_PROBES = 16
#: No further cell is looked into when so many rows were: cells of unlike sizes must not make a search of the whole bank.
_ROWS = 10_000
#: Similarities held at once.
_CELLS = 16_000_000


def _no_centroids() -> Array:
    return np.zeros((0, 0), np.float32)


def _no_starts() -> Rows:
    return np.zeros(0, np.int64)


@dataclass(frozen=True)
class KnnHead(Head):
    """Mean cosine similarity to the k nearest training images, on pooled features of unit length.

    Source: Bergman, Cohen and Hoshen, "Deep Nearest Neighbor Anomaly Detection", 2020 (DN2), with cosine for Euclid.
    """

    #: (n, c), rows of unit length; cell by cell where there are cells.
    bank: Array
    neighbours: int
    #: (m, c), unit vectors; none: every row is compared.
    centroids: Array = field(default_factory=_no_centroids)
    #: (m + 1,), where each cell's rows begin.
    starts: Rows = field(default_factory=_no_starts)
    kind: ClassVar[str] = "knn"

    def score(self, features: Features) -> Scores:
        """In [-1, 1]."""
        return np.asarray(self.nearest(features, self.neighbours)[1].mean(axis=1))

    def nearest(self, features: Features, count: int) -> tuple[Rows, Scores]:
        """Rows of the bank most like each image, and how like: both (n, min(count, rows)), best first."""
        images, count = unit(features.pooled), min(count, len(self.bank))
        rows, alike = np.zeros((len(images), count), np.int64), np.zeros((len(images), count))
        if len(self.centroids):
            for place, image in enumerate(images):
                near = self._cells(image, count)
                # Cell by cell: slices of the bank, where choosing rows would copy them.
                values = np.concatenate([self.bank[start:end] @ image for start, end in near])
                found = np.concatenate([np.arange(start, end) for start, end in near])
                rows[place], alike[place] = (best[0] for best in _best(values[None], count, found))
            return rows, alike
        block = max(1, _CELLS // len(self.bank))
        for start in range(0, len(images), block):
            part = slice(start, start + block)
            rows[part], alike[part] = _best(images[part] @ self.bank.T, count, np.arange(len(self.bank)))
        return rows, alike

    def _cells(self, image: Array, count: int) -> list[tuple[int, int]]:
        """Where the rows of the cells next to an image begin and end, at least ``count`` rows in all."""
        order, sizes = np.argsort(-(self.centroids @ image), kind="stable"), np.diff(self.starts)
        total = np.cumsum(sizes[order])
        least, most = (int(np.searchsorted(total, rows)) + 1 for rows in (count, _ROWS))
        probes = max(least, min(_PROBES, most))
        return [(int(self.starts[cell]), int(self.starts[cell + 1])) for cell in order[:probes]]

    def tensors(self) -> Tensors:
        """The bank, the number of neighbours (1,), and the cells where there are any."""
        cells: Tensors = {"centroids": self.centroids, "starts": self.starts} if len(self.centroids) else {}
        return {**cells, "bank": self.bank, "neighbours": np.array([self.neighbours], np.int64)}

    @classmethod
    def of(cls, tensors: Tensors) -> KnnHead:
        """From its arrays."""
        return cls(tensors["bank"], int(tensors["neighbours"][0]), tensors.get("centroids", _no_centroids()), tensors.get("starts", _no_starts()))


@dataclass(frozen=True)
class PatchHead(Head):
    """How far an image's patches are from those of the training images: minus the mean of its farthest ones' distances.

    Source: Roth et al., "Towards Total Recall in Industrial Anomaly Detection", CVPR 2022 (PatchCore), section 3: locally
    averaged patches, compared with a coreset of those of the training images. ``share`` is ours: PatchCore asks whether any
    patch is strange (the farthest one alone), which finds a scratch but not whether a whole scene is of a kind.
    """

    #: (m, c): the coreset, unit vectors.
    bank: Array
    #: Of an image's patches, the share of the farthest that counts; 0 is PatchCore's single farthest.
    share: float
    kind: ClassVar[str] = "patches"
    needs_map: ClassVar[bool] = True

    def score(self, features: Features) -> Scores:
        """In [-1, 1]: a mean cosine similarity."""
        found = patches(features.whole_map(self.kind))
        scores = np.zeros(len(found))
        for place, image in enumerate(found):
            best = np.sort((image @ self.bank.T).max(axis=1))
            scores[place] = best[: max(1, round(self.share * len(best)))].mean()
        return scores

    def tensors(self) -> Tensors:
        """The bank and the share (1,)."""
        return {"bank": self.bank, "share": np.array([self.share], np.float32)}

    @classmethod
    def of(cls, tensors: Tensors) -> PatchHead:
        """From its arrays."""
        return cls(tensors["bank"], float(tensors["share"][0]))


def patches(feature_map: Array) -> Array:
    """Patches of images, each averaged with its eight neighbours, as unit vectors: (n, c, h, w) -> (n, h * w, c)."""
    n, c, h, w = feature_map.shape
    padded = np.pad(feature_map.astype(np.float32), ((0, 0), (0, 0), (1, 1), (1, 1)), mode="edge")
    mean = sum(padded[:, :, y : y + h, x : x + w] for y in range(3) for x in range(3)) / np.float32(9)
    flat = np.asarray(mean).reshape(n, c, h * w).transpose(0, 2, 1)
    return unit(flat.reshape(-1, c)).reshape(n, h * w, c)


def _best(alike: Array, count: int, rows: Rows) -> tuple[Rows, Scores]:
    """The ``count`` largest of each row, best first; of equal ones the first."""
    if alike.shape[1] > 4 * count:
        places = np.sort(np.argpartition(-alike, count - 1, axis=1)[:, :count], axis=1)
    else:
        places = np.broadcast_to(np.arange(alike.shape[1]), alike.shape)
    values = np.take_along_axis(alike, places, axis=1)
    order = np.argsort(-values, axis=1, kind="stable")[:, :count]
    return rows[np.take_along_axis(places, order, axis=1)], np.take_along_axis(values, order, axis=1).astype(np.float64)
