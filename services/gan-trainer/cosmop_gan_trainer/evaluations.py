"""Asking fid-evaluator to judge snapshots, and learning what it said. Nothing here waits but ``wait``."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from cosmop_common import imagesets
from cosmop_common.bus import Bus
from cosmop_common.errors import NotFoundError
from cosmop_common.jobs import submit
from cosmop_common.names import evaluation_key
from cosmop_common.pb.cosmop.v1 import runs_pb2
from cosmop_common.records import EvaluationRecord
from cosmop_common.runs import Runs
from cosmop_common.store import Store

from cosmop_gan_trainer.config import WatchConfig
from cosmop_gan_trainer.ranking import Judged
from cosmop_gan_trainer.reading import training_set

_POLL_SECONDS = 1.0
_OVER = {runs_pb2.RUN_STATE_FAILED, runs_pb2.RUN_STATE_CANCELLED, runs_pb2.RUN_STATE_SUCCEEDED}


def evaluation_run(run: str, kimg: float) -> str:
    """The run that evaluates a snapshot: the same id whenever it is asked for."""
    return f"{run}-eval-{round(kimg * 1000):09d}"


class Evaluations:
    """The evaluations of one run's snapshots."""

    def __init__(self, bus: Bus, runs: Runs, store: Store, job: runs_pb2.Job, watch: WatchConfig) -> None:
        self._bus, self._runs, self._store = bus, runs, store
        self._job, self._watch = job, watch
        self._known: dict[float, Judged] = {}

    async def request(self, kimg: float) -> None:
        """Submits the evaluation of a snapshot; asked twice, it is one."""
        train, watch = self._job.train_gan, self._watch
        label = "" if watch.conditional else train.label
        evaluate = runs_pb2.EvaluateJob(
            reference=training_set(train, label),
            candidate=imagesets.samples_set(self._job.run, kimg),
            protocol=watch.protocol,
            measures=[m.strip() for m in watch.measures.split(",") if m.strip()],
            gan_run=self._job.run,
            kimg=kimg,
            max_images=watch.max_images,
        )
        job = runs_pb2.Job(run=evaluation_run(self._job.run, kimg), collection=self._job.collection, parent=self._job.run, evaluate=evaluate)
        await submit(self._bus, self._runs, "fid-evaluator", job)

    async def judged(self, snapshots: list[float]) -> list[Judged]:
        """What is known of each snapshot now."""
        for kimg in snapshots:
            if kimg not in self._known:
                found = await self._look(kimg)
                if not found.pending:
                    self._known[kimg] = found
        return [self._known.get(k, Judged(k)) for k in snapshots]

    async def wait(self, snapshots: list[float], check: Callable[[], None], report: Callable[[list[Judged]], None]) -> list[Judged]:
        """Waits until all are judged or ``finalise_seconds`` are over. ``check`` may raise to end the wait."""
        deadline = time.monotonic() + self._watch.finalise_seconds
        while True:
            judged = await self.judged(snapshots)
            report(judged)
            if not any(j.pending for j in judged) or time.monotonic() >= deadline:
                return judged
            check()
            await asyncio.sleep(_POLL_SECONDS)

    async def _look(self, kimg: float) -> Judged:
        # The run's state first: once it is over, its record is either there or will never be.
        run = await self._runs.find(evaluation_run(self._job.run, kimg))
        try:
            return Judged(kimg, await EvaluationRecord.load(self._store, evaluation_key(self._job.run, kimg)))
        except NotFoundError:
            if run is not None and run.state in _OVER:
                return Judged(kimg, failure=run.error or "it ended without a result")
            return Judged(kimg)
