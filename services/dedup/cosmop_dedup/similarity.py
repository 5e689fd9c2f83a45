"""The grey zone: pairs whose hashes are too far apart to be surely copies are asked a second time, by their embeddings.

A perceptual hash sees where light and dark lie, so a cropped or framed copy moves away from its original; a network's features see
what is shown. Both together are needed: features alone call two photos of the same thing copies (docs/decisions.md). An
embedding is stored with the hash, in whole numbers, so that a decision follows from facts and is the same on every machine.
"""

from __future__ import annotations

import numpy as np
from cosmop_common.collection import DedupSettings
from numpy.typing import NDArray

_LARGEST = 127
#: Pairs that are compared at once: bounds the memory.
_PAIRS = 4096


def quantise(features: NDArray[np.float32]) -> bytes:
    """A vector's direction, its largest component as 127: one signed byte for each."""
    largest = float(np.abs(features).max())
    scaled = features * (_LARGEST / largest) if largest > 0 else features
    return np.rint(scaled).astype(np.int8).tobytes()


def reach(rule: DedupSettings) -> int:
    """The distance up to which two images can be copies at all."""
    return max(rule.distance, rule.grey_distance)


class Embeddings:
    """Embeddings of those rows that have one, each with its network's name: only those of the same network are compared."""

    def __init__(self) -> None:
        self._networks: dict[int, str] = {}
        self._vectors: dict[int, NDArray[np.int8]] = {}

    def __setitem__(self, row: int, embedding: tuple[str, bytes]) -> None:
        network, vector = embedding
        if vector:
            self._networks[row], self._vectors[row] = network, np.frombuffer(vector, np.int8)

    def __delitem__(self, row: int) -> None:
        self._networks.pop(row, None)
        self._vectors.pop(row, None)

    def __getitem__(self, row: int) -> tuple[str, bytes]:
        vector = self._vectors.get(row)
        return ("", b"") if vector is None else (self._networks[row], vector.tobytes())

    @property
    def nbytes(self) -> int:
        """Bytes of the vectors."""
        return sum(vector.nbytes for vector in self._vectors.values())

    def copies(self, one: NDArray[np.int64], other: NDArray[np.int64], bits: NDArray[np.int64], rule: DedupSettings) -> NDArray[np.bool_]:
        """Which pairs of rows are copies of each other.

        Args:
            one: rows, shape (n,).
            other: the rows they are compared with.
            bits: the distances of their hashes.
        """
        near = bits <= rule.distance
        grey = np.flatnonzero(~near & (bits <= rule.grey_distance))
        asked = [p for p in grey.tolist() if self._networks.get(int(one[p]), "-") == self._networks.get(int(other[p]))]
        for start in range(0, len(asked), _PAIRS):
            block = asked[start : start + _PAIRS]
            near[block] = self._cosines(one[block].tolist(), other[block].tolist()) >= rule.grey_similarity
        return np.asarray(near)

    def _cosines(self, one: list[int], other: list[int]) -> NDArray[np.float64]:
        """Of rows with vectors of equal length. Sums of products of bytes are exact; only the last division rounds."""
        a, b = (np.stack([self._vectors[row] for row in rows]).astype(np.float64) for rows in (one, other))
        lengths = (a * a).sum(axis=1) * (b * b).sum(axis=1)
        return np.asarray((a * b).sum(axis=1) / np.sqrt(np.maximum(lengths, 1.0)))
