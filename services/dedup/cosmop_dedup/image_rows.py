"""From an image's id to its row and back: a sorted array for most, a dictionary for the latest.

45 bytes an image, where a dictionary of strings takes 200.
"""

from __future__ import annotations

import numpy as np
from cosmop_common.errors import InvalidInputError
from numpy.typing import NDArray

from cosmop_dedup.growing import GrowingArray

DIGEST = 32
_RECENT, _RECENT_SHARE = 1024, 16


def digest_of(image: str) -> bytes:
    """The 32 bytes of a sha256 in hex. Raises ``InvalidInputError``."""
    try:
        digest = bytes.fromhex(image)
    except ValueError:
        digest = b""
    if len(digest) != DIGEST:
        raise InvalidInputError(f"image {image!r} is no id: a sha256, 64 hex digits, is expected")
    return digest


class ImageRows:
    """Ids of images and the rows that they stand in. An id that comes again, after it was taken out, gets a new row."""

    def __init__(self) -> None:
        self._digests = GrowingArray(np.uint8, (DIGEST,))
        self._alive = GrowingArray(np.bool_)
        #: The first 8 bytes of each id, sorted, and the row of each.
        self._prefixes = np.empty(0, np.uint64)
        self._sorted = np.empty(0, np.int32)
        #: Rows that were added since.
        self._recent: dict[bytes, int] = {}
        self._count = 0

    def __len__(self) -> int:
        """How many ids are in."""
        return self._count

    @property
    def nbytes(self) -> int:
        """Bytes of ids and table."""
        return self._digests.nbytes + self._alive.nbytes + self._prefixes.nbytes + self._sorted.nbytes

    def extend(self, digests: NDArray[np.uint8]) -> None:
        """Appends rows with these ids, none of which is in: shape (n, 32)."""
        first = len(self._digests)
        self._digests.extend(digests)
        self._alive.extend(np.ones(len(digests), bool))
        self._count += len(digests)
        self._recent.update((digest.tobytes(), row) for row, digest in enumerate(digests, first))
        if len(self._recent) > max(_RECENT, len(self._digests) // _RECENT_SHARE):
            self._sort()

    def remove(self, row: int) -> None:
        """Takes a row's id out."""
        self._alive.rows[row] = False
        self._count -= 1

    def row(self, digest: bytes) -> int | None:
        """The row of an id, or None where it is not in."""
        row = self._recent.get(digest)
        if row is not None and self._alive.rows[row]:
            return row
        prefix = np.frombuffer(digest, ">u8", 1).astype(np.uint64)[0]
        first, last = (int(np.searchsorted(self._prefixes, prefix, side)) for side in ("left", "right"))
        return next((row for row in self._sorted[first:last].tolist() if self._alive.rows[row] and self.digest(row) == digest), None)

    def digest(self, row: int) -> bytes:
        """The id of a row."""
        return bytes(self._digests.rows[row].tobytes())

    def rows(self) -> NDArray[np.int64]:
        """All rows whose ids are in, in order."""
        return np.flatnonzero(self._alive.rows)

    def alive(self, rows: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which of these rows have ids that are in."""
        return np.asarray(self._alive.rows[rows])

    def _sort(self) -> None:
        rows = self.rows()
        prefixes = np.ascontiguousarray(self._digests.rows[rows, :8]).view(">u8").reshape(-1).astype(np.uint64)
        order = np.argsort(prefixes)
        self._prefixes, self._sorted = prefixes[order], rows[order].astype(np.int32)
        self._recent.clear()
