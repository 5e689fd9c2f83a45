"""How training went: its losses and p over thousands of images shown, thinned so that a run of any length is a few hundred points."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

NAMES = ("loss_g", "loss_d", "r1", "path_length", "p", "sign", "seconds_per_kimg")
POINTS = 400
"""Where there would be more, neighbours are averaged, and each point stands for twice as many steps from then on."""


@dataclass
class Curves:
    """Means over ``stride`` steps of what the trainer measured.

    Attributes:
        rows: [kimg, one value for each of ``NAMES``], None where nothing was measured.
    """

    rows: list[list[float | None]] = field(default_factory=list)
    stride: int = 1
    _open: list[list[float | None]] = field(default_factory=list)

    def see(self, kimg: float, stats: Mapping[str, float]) -> None:
        """Notes one step."""
        self._open.append([kimg, *(stats.get(name) for name in NAMES)])
        if len(self._open) < self.stride:
            return
        self.rows.append(_mean(self._open))
        self._open = []
        if len(self.rows) >= POINTS:
            self.rows = [_mean(self.rows[k : k + 2]) for k in range(0, len(self.rows), 2)]
            self.stride *= 2

    def state(self) -> dict[str, Any]:
        """All that ``restore`` needs, as JSON; also what ``curves.json`` holds."""
        return {"names": ["kimg", *NAMES], "rows": self.rows, "stride": self.stride, "open": self._open}

    @classmethod
    def restore(cls, state: Mapping[str, Any]) -> Curves:
        """Goes on from ``state``."""
        return cls(list(state["rows"]), int(state["stride"]), list(state["open"]))


def _mean(rows: list[list[float | None]]) -> list[float | None]:
    """Column by column, of what is there; the point lies at the last row's kimg."""
    columns = list(zip(*rows, strict=True))
    means: list[float | None] = [rows[-1][0]]
    for column in columns[1:]:
        known = [v for v in column if v is not None]
        means.append(sum(known) / len(known) if known else None)
    return means
