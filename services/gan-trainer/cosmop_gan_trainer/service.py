"""The gRPC servicer: submits jobs, reads what runs have left. Imports no torch."""

# gRPC names its methods; a context is needed by none.
# ruff: noqa: N802, ARG002

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from cosmop_common.bus import Bus
from cosmop_common.errors import InvalidInputError, NotFoundError
from cosmop_common.jobs import submit
from cosmop_common.names import evaluation_key, run_key
from cosmop_common.pb.cosmop.v1 import gan_trainer_pb2, gan_trainer_pb2_grpc, runs_pb2
from cosmop_common.records import EvaluationRecord, GanRunRecord, SnapshotRecord
from cosmop_common.runs import Runs
from cosmop_common.store import Store

from cosmop_gan_trainer import ranking
from cosmop_gan_trainer.plans import plan
from cosmop_gan_trainer.ranking import Judged

SERVICE = "gan-trainer"


class GanTrainerServicer(gan_trainer_pb2_grpc.GanTrainerServicer):
    """``cosmop.v1.GanTrainer``."""

    def __init__(self, bus: Bus, runs: Runs, store: Store) -> None:
        self._bus, self._runs, self._store = bus, runs, store

    async def StartRun(self, request: gan_trainer_pb2.StartGanRunRequest, context: Any) -> runs_pb2.Run:
        """Submits a training run; its settings are checked here, its data by the job."""
        plan(request.train)
        job = runs_pb2.Job(run=request.run, collection=request.collection, parent=request.parent, train_gan=request.train)
        return await submit(self._bus, self._runs, SERVICE, job)

    async def StopRun(self, request: runs_pb2.CancelRunRequest, context: Any) -> runs_pb2.Run:
        """Asks a run to save its state and end; ``ResumeRun`` goes on from there."""
        await self._ours(request.run)
        return await self._runs.cancel(request.run)

    async def ResumeRun(self, request: runs_pb2.GetRunRequest, context: Any) -> runs_pb2.Run:
        """Queues a stopped or failed run again; one that is under way or done stays as it is."""
        run = await self._ours(request.run)
        return await submit(self._bus, self._runs, SERVICE, run.job)

    async def GetRun(self, request: runs_pb2.GetRunRequest, context: Any) -> runs_pb2.Run:
        """A run's state."""
        return await self._ours(request.run)

    async def ListRuns(self, request: runs_pb2.ListRunsRequest, context: Any) -> runs_pb2.ListRunsResponse:
        """Training and generating runs, newest first."""
        return runs_pb2.ListRunsResponse(runs=await self._runs.list(request.collection, request.limit, kind=f"{SERVICE}."))

    async def WatchRun(self, request: runs_pb2.WatchRunRequest, context: Any) -> AsyncIterator[runs_pb2.Run]:
        """A run as it is, then each change until its end."""
        await self._ours(request.run)
        async for state in self._runs.watch(request.run):
            yield state

    async def ListSnapshots(self, request: gan_trainer_pb2.ListSnapshotsRequest, context: Any) -> gan_trainer_pb2.ListSnapshotsResponse:
        """A run's snapshots in the order of kimg, with what is known of their evaluations."""
        await self._ours(request.run)
        records = [
            await SnapshotRecord.load(self._store, key) async for key in self._store.list(run_key(request.run, "snapshots/")) if key.endswith("/snapshot.json")
        ]
        judged = [await self._judged(request.run, r.kimg) for r in records]
        best = await self._best(request.run, judged)
        return gan_trainer_pb2.ListSnapshotsResponse(snapshots=[_snapshot(r, j, best) for r, j in zip(records, judged, strict=True)])

    async def Generate(self, request: gan_trainer_pb2.GenerateRequest, context: Any) -> runs_pb2.Run:
        """Submits a generating run."""
        if not request.generate.count:
            raise InvalidInputError("count is 0: say how many images to make")
        if not 0 <= request.generate.truncation <= 1:
            raise InvalidInputError(f"truncation is {request.generate.truncation}: must be from 0 (taken as 1) to 1")
        job = runs_pb2.Job(run=request.run, collection=request.collection, parent=request.parent, generate=request.generate)
        return await submit(self._bus, self._runs, SERVICE, job)

    async def _ours(self, run: str) -> runs_pb2.Run:
        state = await self._runs.get(run)
        if not state.kind.startswith(f"{SERVICE}."):
            raise NotFoundError(f"run {run!r} is a {state.kind} run: ask the service it belongs to")
        return state

    async def _judged(self, run: str, kimg: float) -> Judged:
        try:
            return Judged(kimg, await EvaluationRecord.load(self._store, evaluation_key(run, kimg)))
        except NotFoundError:
            return Judged(kimg)

    async def _best(self, run: str, judged: list[Judged]) -> float | None:
        """The run's word on it, or while it lasts, the best so far."""
        try:
            return (await GanRunRecord.load(self._store, run_key(run, "gan.json"))).best
        except NotFoundError:
            best = ranking.best(judged)
            return best.kimg if best else None


def _snapshot(record: SnapshotRecord, judged: Judged, best: float | None) -> gan_trainer_pb2.Snapshot:
    snapshot = gan_trainer_pb2.Snapshot(kimg=record.kimg, weights=record.weights, grid=record.grid, samples=record.samples, best=record.kimg == best)
    if judged.record and judged.record.measures:
        measure = judged.record.measures[0]
        snapshot.metric, snapshot.value = measure.name, measure.value
        if measure.interval:
            snapshot.low, snapshot.high = measure.interval
    return snapshot
