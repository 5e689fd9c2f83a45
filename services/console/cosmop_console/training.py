"""What a training run leaves to look at: samples of its best snapshot, a film strip, its curves, and the measure over its snapshots."""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

from cosmop_common.errors import NotFoundError
from cosmop_common.names import run_key
from cosmop_common.pb.cosmop.v1 import runs_pb2
from cosmop_common.records import EvaluationRecord, GanRunRecord
from cosmop_common.store import Store

FILM, CURVES, TUNING = "film.png", "curves.json", "training/curves.svg"
"""Files of a run: the GAN trainer's first two, the human detector's third."""

_SNAPSHOTS, _EVALUATIONS = "snapshots/", "evaluations/"
_GRID = "/grid.png"
_JOBS = {"train_gan", "train_human_detector"}


@dataclass(frozen=True)
class Curves:
    """Losses and p of a GAN's training, as ``curves.json`` holds them.

    Attributes:
        kimg: thousands of real images shown, rising.
        values: by name, one value a point; None where nothing was measured, or what was measured is no finite number.
    """

    kimg: list[float]
    values: dict[str, list[float | None]]

    @classmethod
    def parse(cls, state: dict[str, Any]) -> Self:
        """From the names of columns and rows of numbers; the first column is kimg."""
        columns = [[_finite(row[k]) for row in state["rows"]] for k in range(len(state["names"]))]
        return cls([x or 0.0 for x in columns[0]], dict(zip(state["names"][1:], columns[1:], strict=True)))

    @classmethod
    async def find(cls, store: Store, run: str) -> Self | None:
        """A run's; None for runs made before there were any, and before a run's first snapshot."""
        try:
            found = cls.parse(await store.get_json(run_key(run, CURVES)))
        except NotFoundError:
            return None
        return found if found.kimg else None

    def table(self) -> dict[str, Any]:
        """Names of columns and rows, without numbers that JSON cannot hold."""
        columns = zip(self.kimg, *self.values.values(), strict=True)
        return {"names": ["kimg", *self.values], "rows": [list(row) for row in columns]}


@dataclass(frozen=True)
class Measured:
    """The first measure of each snapshot that was evaluated.

    Attributes:
        points: kimg, value, interval; in order.
    """

    metric: str
    points: Sequence[tuple[float, float, tuple[float, float] | None]]


@dataclass(frozen=True)
class Traces:
    """What there is to show of a run now."""

    #: The snapshot whose samples are shown, as nine digits; empty before the first.
    snapshot: str = ""
    #: Why that one, once the run has ended; empty while it is only the newest.
    because: str = ""
    film: bool = False
    curves: bool = False
    tuning: bool = False
    snapshots: int = 0
    evaluations: int = 0
    #: Changes when what is drawn from the run's files does, so that browsers ask again.
    version: int = 0

    @property
    def kimg(self) -> float:
        """Thousands of images that the shown snapshot has seen."""
        return int(self.snapshot) / 1000


async def find_film(store: Store, run: str) -> bytes:
    """A GAN run's film strip (PNG); empty for runs made before there were any, and while it trains."""
    try:
        return await store.get(run_key(run, FILM))
    except NotFoundError:
        return b""


async def find_gan(store: Store, run: str) -> GanRunRecord | None:
    """The record of a GAN run that has ended, or None."""
    try:
        return await GanRunRecord.load(store, run_key(run, "gan.json"))
    except NotFoundError:
        return None


async def measured(store: Store, run: str) -> Measured | None:
    """The snapshots' evaluations that are there and measured as the last one; None where there are none."""
    found: dict[float, EvaluationRecord] = {}
    async for key in store.list(run_key(run, _EVALUATIONS)):
        found[int(key.rsplit("/", 1)[-1].removesuffix(".json")) / 1000] = await EvaluationRecord.load(store, key)
    told = {kimg: record for kimg, record in sorted(found.items()) if record.measures and math.isfinite(record.measures[0].value)}
    if not told:
        return None
    last = told[max(told)]
    points = [(kimg, r.measures[0].value, r.measures[0].interval) for kimg, r in told.items() if r.yardstick == last.yardstick]
    return Measured(last.measures[0].name, points)


async def traces(store: Store, run: runs_pb2.Run) -> Traces | None:
    """What a run has left up to now; None for runs that train nothing, or have left nothing yet."""
    if run.job.WhichOneof("spec") not in _JOBS:
        return None
    prefix = run_key(run.id, "")
    names = {key.removeprefix(prefix) async for key in store.list(prefix)}
    snapshots = sorted(name.split("/")[1] for name in names if name.startswith(_SNAPSHOTS) and name.endswith(_GRID))
    evaluations = sum(name.startswith(_EVALUATIONS) for name in names)
    record = await find_gan(store, run.id) if "gan.json" in names else None
    best = "" if record is None or record.best is None else f"{round(record.best * 1000):09d}"
    chosen = best in snapshots
    told = "".join(stage.message for stage in run.stages if stage.state == runs_pb2.RUN_STATE_RUNNING)
    found = Traces(
        snapshot=best if chosen else snapshots[-1] if snapshots else "",
        because=(record.best_because or "its run says so") if record and chosen else "",
        film=FILM in names,
        curves=CURVES in names,
        tuning=TUNING in names,
        snapshots=len(snapshots),
        evaluations=evaluations,
        version=zlib.crc32(told.encode()) if TUNING in names else 1000 * len(snapshots) + evaluations + (record is not None),
    )
    return found if found.snapshot or found.tuning else None


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
