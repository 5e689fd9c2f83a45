"""The gRPC service ``cosmop.v1.FidEvaluator``: submits, watches and reads evaluations. It computes nothing and loads no network."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from cosmop_common.errors import NotFoundError, NotReadyError
from cosmop_common.jobs import submit
from cosmop_common.names import run_key, token
from cosmop_common.pb.cosmop.v1 import fid_evaluator_pb2, runs_pb2
from cosmop_common.pb.cosmop.v1.fid_evaluator_pb2_grpc import FidEvaluatorServicer
from cosmop_common.records import EvaluationRecord
from cosmop_common.runs import ENDED
from cosmop_common.runtime import Runtime

from cosmop_fid_evaluator.asked import check_asked
from cosmop_fid_evaluator.settings import SERVICE

_KIND = f"{SERVICE}.evaluate"


class Evaluations(FidEvaluatorServicer):
    """Thin: jobs go to the job process, results come from the object store."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    async def Evaluate(self, request: fid_evaluator_pb2.EvaluateRequest, context: Any) -> runs_pb2.Run:  # noqa: ARG002, N802
        """Starts an evaluation. INVALID_ARGUMENT: an unknown protocol or measure, a set that is not named, a resolution out of bounds."""
        evaluate = request.evaluate
        check_asked(evaluate)
        job = runs_pb2.Job(run=token(request.run) if request.run else "", collection=request.collection, parent=request.parent, evaluate=evaluate)
        return await submit(self._runtime.bus, self._runtime.runs, SERVICE, job)

    async def WatchEvaluation(self, request: runs_pb2.WatchRunRequest, context: Any) -> AsyncIterator[runs_pb2.Run]:  # noqa: ARG002, N802
        """The run as it is, then each change, until it has ended. NOT_FOUND: there is no such run."""
        async for run in self._runtime.runs.watch(request.run):
            yield run

    async def GetReport(self, request: runs_pb2.GetRunRequest, context: Any) -> fid_evaluator_pb2.EvaluationReport:  # noqa: ARG002, N802
        """The result of an evaluation. NOT_FOUND: there is no such run; FAILED_PRECONDITION: it has no result (yet)."""
        try:
            return _report(await EvaluationRecord.load(self._runtime.store, run_key(token(request.run), "evaluation.json")))
        except NotFoundError:
            run = await self._runtime.runs.get(request.run)
        state = runs_pb2.RunState.Name(run.state).removeprefix("RUN_STATE_").lower()
        cure = f"it ended without one ({run.error or state})" if run.state in ENDED else "watch it with WatchEvaluation"
        raise NotReadyError(f"evaluation {request.run} is {state} and has no result: {cure}")

    async def ListReports(self, request: runs_pb2.ListRunsRequest, context: Any) -> fid_evaluator_pb2.ListReportsResponse:  # noqa: ARG002, N802
        """Results of finished evaluations, newest first."""
        runs = await self._runtime.runs.list(request.collection, request.limit, _KIND)
        found = await asyncio.gather(*(self._find(run.id) for run in runs if run.state == runs_pb2.RUN_STATE_SUCCEEDED))
        return fid_evaluator_pb2.ListReportsResponse(reports=[_report(record) for record in found if record is not None])

    async def _find(self, run: str) -> EvaluationRecord | None:
        try:
            return await EvaluationRecord.load(self._runtime.store, run_key(run, "evaluation.json"))
        except NotFoundError:
            return None


def _report(record: EvaluationRecord) -> fid_evaluator_pb2.EvaluationReport:
    measures = [
        fid_evaluator_pb2.Measure(
            name=m.name, value=m.value, low=m.interval[0] if m.interval else None, high=m.interval[1] if m.interval else None, interval=m.method
        )
        for m in record.measures
    ]
    asked = runs_pb2.EvaluateJob(
        reference=record.reference, candidate=record.candidate, protocol=record.protocol.partition(";")[0], gan_run=record.gan_run, kimg=record.kimg or 0.0
    )
    return fid_evaluator_pb2.EvaluationReport(
        run=record.run,
        evaluate=asked,
        measures=measures,
        protocol=record.protocol,
        reference_images=record.reference_images,
        candidate_images=record.candidate_images,
        warnings=record.warnings,
    )
