"""``cosmop.v1.FidEvaluator`` over a real channel to a real server process's parts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import grpc
import pytest
from cosmop_common import names
from cosmop_common.bus import Bus
from cosmop_common.grpc_server import GrpcServer
from cosmop_common.pb.cosmop.v1 import fid_evaluator_pb2, runs_pb2
from cosmop_common.pb.cosmop.v1.fid_evaluator_pb2_grpc import FidEvaluatorStub, add_FidEvaluatorServicer_to_server
from cosmop_common.records import EvaluationRecord, MeasureRecord
from cosmop_common.runs import Runs
from cosmop_common.store import Store
from cosmop_fid_evaluator.service import Evaluations
from cosmop_fid_evaluator.settings import Settings


class Parts:
    """What the servicer takes of a runtime."""

    def __init__(self, bus: Bus, store: Store) -> None:
        self.bus, self.store, self.runs = bus, store, Runs(bus)


@pytest.fixture
async def stub(bus: Bus, store: Store) -> AsyncIterator[FidEvaluatorStub]:
    server = GrpcServer(Settings(grpc_port=0, drain_seconds=0.1))
    add_FidEvaluatorServicer_to_server(Evaluations(Parts(bus, store)), server.server)
    port = await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield FidEvaluatorStub(channel)
    await server.stop()


def request(run: str, **more: object) -> fid_evaluator_pb2.EvaluateRequest:
    evaluate = runs_pb2.EvaluateJob(reference="prefix:a/", candidate="prefix:b/", **more)
    return fid_evaluator_pb2.EvaluateRequest(collection="c", run=run, evaluate=evaluate)


async def finish(bus: Bus, store: Store, run: str) -> None:
    record = EvaluationRecord(
        run=run, reference="prefix:a/", candidate="prefix:b/", gan_run="g", kimg=2.5,
        measures=[MeasureRecord(name="fid", value=12.5, interval=(11.0, 14.0), method="influence"), MeasureRecord(name="kid", value=0.1)],
        protocol="fid;network=x;n=5/4", reference_images=5, candidate_images=4, warnings=["few"],
    )  # fmt: skip
    await record.save(store, names.run_key(run, "evaluation.json"))
    await Runs(bus).change(run, lambda r: setattr(r, "state", runs_pb2.RUN_STATE_SUCCEEDED))


async def test_from_submission_to_report(stub: FidEvaluatorStub, bus: Bus, store: Store) -> None:
    run = await stub.Evaluate(request("e-1"))
    assert run.id == "e-1"
    assert run.state == runs_pb2.RUN_STATE_QUEUED
    assert (await stub.Evaluate(request("e-1"))).id == "e-1"
    assert (await bus.js.stream_info("JOBS")).state.messages == 1
    with pytest.raises(grpc.aio.AioRpcError) as early:
        await stub.GetReport(runs_pb2.GetRunRequest(run="e-1"))
    assert early.value.code() == grpc.StatusCode.FAILED_PRECONDITION
    assert "queued" in str(early.value.details())

    async def watch() -> list[int]:
        return [r.state async for r in stub.WatchEvaluation(runs_pb2.WatchRunRequest(run="e-1"))]

    watching = asyncio.create_task(watch())
    await asyncio.sleep(0.3)
    await finish(bus, store, "e-1")
    assert (await asyncio.wait_for(watching, 60))[-1] == runs_pb2.RUN_STATE_SUCCEEDED
    report = await stub.GetReport(runs_pb2.GetRunRequest(run="e-1"))
    assert report.measures[0] == fid_evaluator_pb2.Measure(name="fid", value=12.5, low=11.0, high=14.0, interval="influence")
    assert not report.measures[1].HasField("low")
    assert (report.evaluate.gan_run, report.evaluate.kimg, report.evaluate.protocol) == ("g", 2.5, "fid")
    assert list(report.warnings) == ["few"]
    await stub.Evaluate(request("e-2"))
    listed = await stub.ListReports(runs_pb2.ListRunsRequest(collection="c"))
    assert [r.run for r in listed.reports] == ["e-1"]
    assert not (await stub.ListReports(runs_pb2.ListRunsRequest(collection="other"))).reports


async def test_what_cannot_be_is_refused_before_it_is_queued(stub: FidEvaluatorStub) -> None:
    elsewhere = request("e-3")
    elsewhere.evaluate.candidate = "folder:x"
    for bad, word in (
        (request("e-3", protocol="fvd"), "known are fid"),
        (fid_evaluator_pb2.EvaluateRequest(), "reference"),
        (request("a.b"), "a.b"),
        (request("e-3", measures=["is"]), "known are kid"),
        (request("e-3", resolution=100_000), "at most 4096"),
        (elsewhere, "'folder:x' names no image set"),
    ):
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await stub.Evaluate(bad)
        assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT
        assert word in str(refused.value.details())
    with pytest.raises(grpc.aio.AioRpcError) as missing:
        await stub.GetReport(runs_pb2.GetRunRequest(run="nothing"))
    assert missing.value.code() == grpc.StatusCode.NOT_FOUND
