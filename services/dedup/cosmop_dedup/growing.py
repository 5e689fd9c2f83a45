"""An array that grows at its end in amortised constant time, as a list does."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray


class GrowingArray:
    """Rows of one shape and type.

    Args:
        dtype: of the values.
        columns: shape of a row; () where it is one value.
    """

    def __init__(self, dtype: DTypeLike, columns: tuple[int, ...] = ()) -> None:
        self._held = np.empty((0, *columns), dtype)
        self._count = 0

    def __len__(self) -> int:
        return self._count

    @property
    def rows(self) -> NDArray[Any]:
        """All rows: a view, which writes go through, and which later growth may leave behind."""
        return self._held[: self._count]

    @property
    def nbytes(self) -> int:
        """Bytes held, spare room included."""
        return int(self._held.nbytes)

    def extend(self, rows: NDArray[Any]) -> None:
        """Appends rows."""
        count = self._count + len(rows)
        if count > len(self._held):
            grown = np.empty((max(count, len(self._held) * 9 // 8), *self._held.shape[1:]), self._held.dtype)
            grown[: self._count] = self.rows
            self._held = grown
        self._held[self._count : count] = rows
        self._count = count
