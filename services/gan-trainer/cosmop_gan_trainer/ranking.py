"""Which snapshot is best, and whether it only gets worse: from evaluations, in the order of kimg. No torch in here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cosmop_common.records import EvaluationRecord


@dataclass(frozen=True)
class Judged:
    """A snapshot and what is known of its evaluation."""

    kimg: float
    record: EvaluationRecord | None = None
    #: Why there will be no evaluation.
    failure: str = ""

    @property
    def pending(self) -> bool:
        """Whether its evaluation may still come."""
        return self.record is None and not self.failure

    @property
    def value(self) -> float | None:
        """The first measure, by which snapshots are ranked; lower is better."""
        return self.record.measures[0].value if self.record and self.record.measures else None


def comparable(snapshots: Sequence[Judged]) -> list[Judged]:
    """Those with a value under the protocol and measure of the latest one: values of different protocols are never compared."""
    valued = [s for s in sorted(snapshots, key=lambda s: s.kimg) if s.value is not None]
    return [s for s in valued if s.record and valued[-1].record and s.record.yardstick == valued[-1].record.yardstick]


def trained(snapshots: Sequence[Judged]) -> list[Judged]:
    """All but the untrained generator.

    It is the baseline of the table and no candidate: a short run may well stay above it, and its noise is still nobody's result.
    """
    return [s for s in snapshots if s.kimg > 0]


def best(snapshots: Sequence[Judged]) -> Judged | None:
    """The trained one with the lowest value, the earlier of equals; None when none has one."""
    return min(trained(comparable(snapshots)), key=lambda s: s.value or 0.0, default=None)


def rising(snapshots: Sequence[Judged], patience: int) -> bool:
    """Whether the last ``patience`` snapshots were all judged worse than the best before them.

    Snapshots are taken in the order of kimg up to the first whose evaluation is pending: what came out of order waits.
    """
    known: list[Judged] = []
    for snapshot in sorted(snapshots, key=lambda s: s.kimg):
        if snapshot.pending:
            break
        known.append(snapshot)
    values = [s.value for s in trained(comparable(known)) if s.value is not None]
    if not patience or len(values) <= patience:
        return False
    return min(values[-patience:]) > min(values[:-patience])
