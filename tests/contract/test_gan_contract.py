"""``cosmop.v1.GanTrainer`` over a real channel: what it submits, what it refuses, what it tells of snapshots."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import AsyncIterator

import grpc
import pytest
from cosmop_common.bus import Bus
from cosmop_common.endpoints import channel
from cosmop_common.names import evaluation_key, run_key, snapshot_key
from cosmop_common.pb.cosmop.v1 import gan_trainer_pb2, gan_trainer_pb2_grpc, runs_pb2
from cosmop_common.records import EvaluationRecord, GanRunRecord, MeasureRecord, SnapshotRecord
from cosmop_common.runs import Runs
from cosmop_common.settings import ConnectionSettings, ServiceSettings
from cosmop_common.store import Store
from cosmop_gan_trainer.service import GanTrainerServicer
from google.protobuf import json_format

TRAIN = {"dataset": "c/v1", "label": "concept", "resolution": 32, "kimg": 5, "snapshots": 3, "preset": "tiny"}


@pytest.fixture
async def stub(bus: Bus, settings: ConnectionSettings, store: Store) -> AsyncIterator[gan_trainer_pb2_grpc.GanTrainerAsyncStub]:
    from cosmop_common.grpc_server import GrpcServer

    server = GrpcServer(ServiceSettings(grpc_port=0))
    gan_trainer_pb2_grpc.add_GanTrainerServicer_to_server(GanTrainerServicer(bus, Runs(bus), store), server.server)
    port = await server.start()
    async with channel(f"127.0.0.1:{port}") as open_channel:
        yield gan_trainer_pb2_grpc.GanTrainerStub(open_channel)
    await server.stop()


def start(run: str = "", **changes: object) -> gan_trainer_pb2.StartGanRunRequest:
    request = gan_trainer_pb2.StartGanRunRequest(collection="c", run=run, parent="pipeline-1")
    json_format.ParseDict(TRAIN | changes, request.train)
    return request


async def test_a_run_is_queued_once_stopped_and_resumed(stub, bus: Bus) -> None:
    run = await stub.StartRun(start("gan-1"))
    assert (run.id, run.kind, run.state, run.parent) == ("gan-1", "gan-trainer.train_gan", runs_pb2.RUN_STATE_QUEUED, "pipeline-1")
    assert (await stub.StartRun(start("gan-1"))).id == "gan-1"
    assert (await bus.js.stream_info("JOBS")).state.messages == 1
    assert (await stub.StopRun(runs_pb2.CancelRunRequest(run="gan-1"))).state == runs_pb2.RUN_STATE_CANCELLED
    assert (await stub.ResumeRun(runs_pb2.GetRunRequest(run="gan-1"))).state == runs_pb2.RUN_STATE_QUEUED
    assert (await stub.GetRun(runs_pb2.GetRunRequest(run="gan-1"))).job.train_gan.kimg == 5
    assert [r.id for r in (await stub.ListRuns(runs_pb2.ListRunsRequest(collection="c"))).runs] == ["gan-1"]
    await Runs(bus).cancel("gan-1")
    assert [r.state async for r in stub.WatchRun(runs_pb2.WatchRunRequest(run="gan-1"))][-1] == runs_pb2.RUN_STATE_CANCELLED


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"preset": "huge"}, "huge"),
        ({"resolution": 33}, "33"),
        ({"kimg": 0}, "kimg"),
        ({"maxSeconds": -1}, "max_seconds"),
        ({"dataset": "c"}, "dataset version"),
        ({"options": {"gamma": "3"}}, "r1_gamma"),
    ],
)
async def test_what_cannot_be_trained_is_refused_with_the_cure(stub, changes: dict[str, object], word: str) -> None:
    with pytest.raises(grpc.aio.AioRpcError, match=word) as caught:
        await stub.StartRun(start(**changes))
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT


async def test_runs_of_others_and_unknown_ones_are_not_found(stub, bus: Bus) -> None:
    await Runs(bus).create(runs_pb2.Run(id="scrape-1", kind="scraper.scrape"))
    for run in ("scrape-1", "nothing"):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.GetRun(runs_pb2.GetRunRequest(run=run))
        assert caught.value.code() == grpc.StatusCode.NOT_FOUND


async def test_generate_is_checked_and_queued(stub) -> None:
    request = gan_trainer_pb2.GenerateRequest(collection="c", run="gen-1", generate=runs_pb2.GenerateJob(gan_run="gan-1", kimg=-1, count=8, truncation=0.7))
    assert (await stub.Generate(request)).kind == "gan-trainer.generate"
    for wrong in (runs_pb2.GenerateJob(gan_run="gan-1"), runs_pb2.GenerateJob(gan_run="gan-1", count=1, truncation=2)):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.Generate(gan_trainer_pb2.GenerateRequest(generate=wrong))
        assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT


async def test_snapshots_come_in_order_with_their_evaluations(stub, store: Store) -> None:
    await stub.StartRun(start("gan-2"))
    for kimg, value in ((2.0, None), (1.0, 80.0), (0.0, 200.0)):
        record = SnapshotRecord(run="gan-2", kimg=kimg, weights="w", weights_sha256="", grid="g", samples="s", sample_count=1, resolution=32, seconds=1)
        await record.save(store, snapshot_key("gan-2", kimg, "snapshot.json"))
        if value is not None:
            measure = MeasureRecord(name="fid", value=value, interval=(value - 5, value + 5))
            evaluation = EvaluationRecord(run="e", reference="", candidate="", measures=[measure], protocol="p", reference_images=1, candidate_images=1)
            await evaluation.save(store, evaluation_key("gan-2", kimg))
    listed = list((await stub.ListSnapshots(gan_trainer_pb2.ListSnapshotsRequest(run="gan-2"))).snapshots)
    assert [(s.kimg, s.best) for s in listed] == [(0, False), (1, True), (2, False)]
    assert (listed[1].metric, listed[1].value, listed[1].low, listed[1].high) == ("fid", 80, 75, 85)
    assert not listed[2].HasField("value")
    # The run's own word counts once it is there.
    done = GanRunRecord(
        run="gan-2",
        collection="c",
        dataset="c/v1",
        label="",
        resolution=32,
        preset="tiny",
        images=1,
        settings={},
        parameters={},
        seconds=1,
        ended_because="",
        snapshots=[0, 1, 2],
        best=2,
    )
    await done.save(store, run_key("gan-2", "gan.json"))
    assert [s.kimg for s in (await stub.ListSnapshots(gan_trainer_pb2.ListSnapshotsRequest(run="gan-2"))).snapshots if s.best] == [2]


def test_the_serving_process_imports_no_torch() -> None:
    code = "import sys, cosmop_gan_trainer.__main__; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
