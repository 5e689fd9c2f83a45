"""When snapshots are due and when training ends: by images shown, or by the time budget, whichever is further on. No torch in here."""

from __future__ import annotations

from dataclasses import dataclass

LEAST_SNAPSHOTS = 3
"""However short the budget: a curve needs that many points (fewer when fewer are asked for)."""


@dataclass
class Schedule:
    """Snapshot i of n is due at i/n of the run; the last one ends it.

    How far a run is, is the larger of its shares of ``kimg`` and of ``max_seconds``. Where the budget will cut the run
    short, its snapshots are therefore spread over what the machine can do in that time, not over what was asked for.
    """

    kimg: float
    snapshots: int
    max_seconds: float = 0.0
    """0: no budget."""
    reserve: float = 0.0
    """Seconds that a snapshot takes, so that the last one ends within the budget."""

    def share(self, kimg: float, seconds: float) -> float:
        """How far the run is, 0 to 1 (and beyond)."""
        by_time = (seconds + self.reserve) / self.max_seconds if self.max_seconds else 0.0
        return max(kimg / self.kimg, by_time)

    def due(self, kimg: float, seconds: float, taken: int) -> bool:
        """Whether a snapshot should be taken now, ``taken`` having been taken since the start."""
        return self.share(kimg, seconds) >= min(1.0, (taken + 1) / self.snapshots)

    def ended(self, kimg: float, seconds: float, taken: int) -> str:
        """Why training is over, empty while it is not; ``taken`` counts the snapshot just taken."""
        if self.share(kimg, seconds) < 1 or taken < min(LEAST_SNAPSHOTS, self.snapshots):
            return ""
        return "kimg reached" if kimg >= self.kimg else "time budget"
