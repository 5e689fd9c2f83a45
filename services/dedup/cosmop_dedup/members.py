"""The images of an index, as columns: about 135 bytes an image, where one object for each would take five times that."""

from __future__ import annotations

import struct
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from cosmop_common.errors import InvalidInputError
from numpy.typing import NDArray

from cosmop_dedup.growing import GrowingArray
from cosmop_dedup.image_rows import DIGEST, ImageRows, digest_of
from cosmop_dedup.phash import SYMMETRIES
from cosmop_dedup.similarity import Embeddings

_EIGHT = struct.Struct(f"={len(SYMMETRIES)}Q")

#: Sorts the best first: most pixels, most bytes, smallest sha256.
Rank = tuple[int, int, bytes]


@dataclass(frozen=True, slots=True)
class Member:
    """An image, as it comes to an index. Made by ``Member.of``."""

    image: str
    #: Eight hashes of 64 bits, in the machine's byte order.
    packed: bytes
    pixels: int
    #: Bytes.
    size: int
    #: The network's name and its vector (``similarity.quantise``); empty where there is none.
    embedding: tuple[str, bytes] = ("", b"")
    #: Stream sequence of the fact that said so.
    sequence: int = field(default=0, compare=False)

    @classmethod
    def of(cls, image: str, hashes: Sequence[int], pixels: int, size: int, embedding: tuple[str, bytes] = ("", b""), sequence: int = 0) -> Member:
        """``hashes``: its own first, then those of its seven turned pictures (``phash.SYMMETRIES``)."""
        return cls(image, _EIGHT.pack(*hashes), pixels, size, embedding, sequence)

    @property
    def hashes(self) -> NDArray[np.uint64]:
        """All eight, its own first: shape (8,)."""
        return np.frombuffer(self.packed, np.uint64)


class Members:
    """Images by row; a row that was taken out stays empty."""

    def __init__(self) -> None:
        self._images = ImageRows()
        self._hashes = GrowingArray(np.uint64, (len(SYMMETRIES),))
        self._pixels, self._sizes, self._sequences = (GrowingArray(np.uint64) for _ in range(3))
        self.embeddings = Embeddings()

    @classmethod
    def best_first(cls, members: Iterable[Member]) -> Members:
        """Images of which none comes twice, in the order of their ranks."""
        made, given = cls(), bytearray()
        packed, numbers, embeddings = bytearray(), array("Q"), {}
        for position, member in enumerate(members):
            given += digest_of(member.image)
            packed += member.packed
            numbers.extend((member.pixels, member.size, member.sequence))
            if member.embedding[1]:
                embeddings[position] = member.embedding
        digests = np.frombuffer(given, np.uint8).reshape(-1, DIGEST)
        hashes = np.frombuffer(packed, np.uint64).reshape(-1, len(SYMMETRIES))
        pixels, sizes, sequences = np.frombuffer(numbers, np.uint64).reshape(-1, 3).T
        # The last key counts most; with all its bits turned over, a whole number sorts from the largest.
        order = np.lexsort((*digests.view(">u8").T[::-1], ~sizes, ~pixels))
        made._extend(digests[order], hashes[order], pixels[order], sizes[order], sequences[order])
        for row, position in enumerate(order.tolist() if embeddings else ()):
            if position in embeddings:
                made.embeddings[row] = embeddings[position]
        return made

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, row: int) -> Member:
        pixels, size, sequence = (int(column.rows[row]) for column in (self._pixels, self._sizes, self._sequences))
        return Member(self.image(row), self._hashes.rows[row].tobytes(), pixels, size, self.embeddings[row], sequence)

    @property
    def hashes(self) -> NDArray[np.uint64]:
        """All hashes of all rows: shape (rows, 8)."""
        return self._hashes.rows

    @property
    def nbytes(self) -> int:
        """Bytes of all columns."""
        columns = (self._images, self._hashes, self._pixels, self._sizes, self._sequences, self.embeddings)
        return sum(column.nbytes for column in columns)

    def append(self, member: Member) -> int:
        """Adds an image that is not in; returns its row."""
        row = len(self._hashes)
        digest = np.frombuffer(digest_of(member.image), np.uint8)[None]
        self._extend(digest, member.hashes[None], *(np.array([n], np.uint64) for n in (member.pixels, member.size, member.sequence)))
        self.embeddings[row] = member.embedding
        return row

    def remove(self, row: int) -> None:
        """Takes an image out."""
        self._images.remove(row)
        del self.embeddings[row]

    def heard(self, row: int, sequence: int) -> None:
        """Notes that a later fact said the same."""
        self._sequences.rows[row] = sequence

    def row(self, image: str) -> int | None:
        """The row of an image, or None where it is not in (or where this is no id)."""
        try:
            return self._images.row(digest_of(image))
        except InvalidInputError:
            return None

    def rows(self) -> NDArray[np.int64]:
        """All rows that hold an image."""
        return self._images.rows()

    def alive(self, rows: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which of these rows hold an image."""
        return self._images.alive(rows)

    def image(self, row: int) -> str:
        """The id of a row."""
        return self._images.digest(row).hex()

    def rank(self, row: int) -> Rank:
        """Of the image in a row."""
        return -int(self._pixels.rows[row]), -int(self._sizes.rows[row]), self._images.digest(row)

    def _extend(
        self, digests: NDArray[np.uint8], hashes: NDArray[np.uint64], pixels: NDArray[np.uint64], sizes: NDArray[np.uint64], sequences: NDArray[np.uint64]
    ) -> None:
        self._images.extend(digests)
        self._hashes.extend(hashes)
        self._pixels.extend(pixels)
        self._sizes.extend(sizes)
        self._sequences.extend(sequences)
