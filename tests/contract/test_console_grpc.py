"""The console's contract over a real channel, against the real process."""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest
from cosmop_common.bus import Bus
from cosmop_common.endpoints import channel
from cosmop_common.facts import Facts
from cosmop_common.jobs import submit
from cosmop_common.pb.cosmop.v1 import console_pb2, console_pb2_grpc, facts_pb2, runs_pb2
from cosmop_common.runs import Runs
from grpc_health.v1 import health_pb2, health_pb2_grpc

YAML = "{name: c, classes: [sport, other], positive: sport}"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
async def console(bus: Bus, environment: dict[str, str], tmp_path: Path) -> AsyncIterator[console_pb2_grpc.ConsoleAsyncStub]:
    """A running console process and a stub to it."""
    port = free_port()
    ports = {"COSMOP_GRPC_PORT": str(port), "COSMOP_HTTP_PORT": str(free_port()), "COSMOP_CONSOLE_DATA": str(tmp_path / "data")}
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", "cosmop_console", env=environment | ports, stdout=asyncio.subprocess.DEVNULL)
    async with channel(f"127.0.0.1:{port}") as link:
        await asyncio.wait_for(link.channel_ready(), 30)
        health = await health_pb2_grpc.HealthStub(link).Check(health_pb2.HealthCheckRequest(service="cosmop.v1.Console"), wait_for_ready=True)
        assert health.status == health_pb2.HealthCheckResponse.SERVING
        yield console_pb2_grpc.ConsoleStub(link)
    process.terminate()
    assert await asyncio.wait_for(process.wait(), 20) == 0


async def refused(call: object) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value.code(), str(caught.value.details())


async def test_collections_labels_funnel_versions_and_runs(console: console_pb2_grpc.ConsoleAsyncStub, bus: Bus) -> None:
    code, details = await refused(console.PutCollection(console_pb2.PutCollectionRequest(yaml="{name: c, colour: red}")))
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert "colour" in details
    made = await console.PutCollection(console_pb2.PutCollectionRequest(yaml=YAML))
    again = await console.PutCollection(console_pb2.PutCollectionRequest(yaml=YAML))
    assert made.revision == again.revision
    listed = await console.ListCollections(console_pb2.ListCollectionsRequest())
    assert [c.name for c in listed.collections] == ["c"]

    facts, images = Facts(bus), [f"{i:064x}" for i in range(6)]
    for i, image in enumerate(images):
        where = {"collection": "c", "image": image}
        await facts.create(facts_pb2.Scraped(**where))
        await facts.put(facts_pb2.Hashed(**where, phash=(i * 0x9E3779B97F4A7C15) % 2**64, algorithm="a/1", cause=1))
        await facts.put(facts_pb2.Deduplicated(**where, kind=facts_pb2.DUPLICATE_KIND_UNIQUE, kept=image, cause=1))
        await facts.put(facts_pb2.Screened(**where, people=True, cause=1))
    code, details = await refused(console.FreezeDataset(console_pb2.FreezeDatasetRequest(collection="c")))
    assert code is grpc.StatusCode.FAILED_PRECONDITION
    assert "label some" in details

    put = console_pb2.PutLabelRequest(collection="c", image=images[0], labeller="ann", label="other")
    assert (await console.PutLabel(put)).ulid == (await console.PutLabel(put)).ulid
    put.label = "maybe"
    assert (await refused(console.PutLabel(put)))[0] is grpc.StatusCode.INVALID_ARGUMENT

    async def labels() -> AsyncIterator[console_pb2.PutLabelRequest]:
        for image in [*images, "f" * 64]:
            yield console_pb2.PutLabelRequest(collection="c", image=image, labeller="import", label="other")

    imported = await console.ImportLabels(labels())
    assert imported.imported == 6
    assert len(imported.refused) == 1
    assert "never scraped" in imported.refused[0]

    funnel = await console.GetFunnel(console_pb2.GetFunnelRequest(collection="c"))
    assert (funnel.scraped, funnel.unique, funnel.people, dict(funnel.labelled)) == (6, 6, 6, {"other": 6})
    version = await console.FreezeDataset(console_pb2.FreezeDatasetRequest(collection="c"))
    assert version.images == 6
    assert sum(version.splits.values()) == 6
    assert list((await console.ListDatasets(console_pb2.ListDatasetsRequest(collection="c"))).datasets) == [version]
    assert (await refused(console.GetFunnel(console_pb2.GetFunnelRequest(collection="nowhere"))))[0] is grpc.StatusCode.NOT_FOUND

    job = runs_pb2.Job(run="scrape-1", collection="c", scrape=runs_pb2.ScrapeJob(source="folder", queries=["x"]))
    await submit(bus, Runs(bus), "scraper", job)
    assert [r.id for r in (await console.ListRuns(runs_pb2.ListRunsRequest(collection="c"))).runs] == ["scrape-1"]
    watch = console.WatchRun(runs_pb2.WatchRunRequest(run="scrape-1"))
    states = []
    async for run in watch:
        states.append(run.state)
        if len(states) == 1:
            await console.CancelRun(runs_pb2.CancelRunRequest(run="scrape-1"))
    assert states == [runs_pb2.RUN_STATE_QUEUED, runs_pb2.RUN_STATE_CANCELLED]
    assert (await console.GetRun(runs_pb2.GetRunRequest(run="scrape-1"))).cancel
    assert (await refused(console.GetRun(runs_pb2.GetRunRequest(run="none"))))[0] is grpc.StatusCode.NOT_FOUND
