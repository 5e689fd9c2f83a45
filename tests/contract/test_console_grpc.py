"""The console's contract over a real channel, against the real process."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest
from cosmop_common.bus import Bus
from cosmop_common.endpoints import channel
from cosmop_common.facts import Facts
from cosmop_common.jobs import submit
from cosmop_common.names import image_key
from cosmop_common.pb.cosmop.v1 import console_pb2, console_pb2_grpc, facts_pb2, runs_pb2
from cosmop_common.records import GanRunRecord, ModelCard
from cosmop_common.runs import Runs
from cosmop_common.store import Store
from cosmop_console.splits import unit_hash
from cosmop_local.servers import free_ports
from grpc_health.v1 import health_pb2, health_pb2_grpc

YAML = "{name: c, classes: [sport, other], positive: sport}"


@pytest.fixture
async def console(bus: Bus, environment: dict[str, str], tmp_path: Path) -> AsyncIterator[console_pb2_grpc.ConsoleAsyncStub]:
    """A running console process and a stub to it."""
    port, http_port = free_ports(2)
    ports = {"COSMOP_GRPC_PORT": str(port), "COSMOP_HTTP_PORT": str(http_port), "COSMOP_CONSOLE_DATA": str(tmp_path / "data")}
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", "cosmop_console", env=environment | ports, stdout=asyncio.subprocess.DEVNULL)
    async with channel(f"127.0.0.1:{port}") as link:
        async with asyncio.timeout(120):
            await link.channel_ready()
            # The port is open a moment before all is ready.
            watch = health_pb2_grpc.HealthStub(link).Watch(health_pb2.HealthCheckRequest(service="cosmop.v1.Console"))
            async for health in watch:
                if health.status == health_pb2.HealthCheckResponse.SERVING:
                    break
            watch.cancel()
        yield console_pb2_grpc.ConsoleStub(link)
    process.terminate()
    assert await asyncio.wait_for(process.wait(), 60) == 0


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


async def test_an_erased_image_leaves_a_tombstone_and_nothing_else_that_can_be_made_again(
    console: console_pb2_grpc.ConsoleAsyncStub, bus: Bus, store: Store, tmp_path: Path
) -> None:
    images = [await store.put_image(f"bytes {i}".encode(), "image/png") for i in range(3)]
    # The first is in the train split: a generator learned from it.
    shared, other, kept = sorted(images, key=unit_hash, reverse=True)
    for name in ("c", "d"):
        await console.PutCollection(console_pb2.PutCollectionRequest(yaml=YAML.replace("name: c", f"name: {name}")))
    facts = Facts(bus)
    for collection, image in (("c", shared), ("d", shared), ("c", other), ("c", kept)):
        where = {"collection": collection, "image": image}
        await facts.create(facts_pb2.Scraped(**where))
        await facts.put(facts_pb2.Hashed(**where, phash=int(image[:15], 16), algorithm="a/1", cause=1))
        await facts.put(facts_pb2.Deduplicated(**where, kind=facts_pb2.DUPLICATE_KIND_UNIQUE, kept=image, cause=1))
        await facts.put(facts_pb2.Screened(**where, people=True, cause=1))
    for image in images:
        await console.PutLabel(console_pb2.PutLabelRequest(collection="c", image=image, labeller="ann", label="sport"))
    version = (await console.FreezeDataset(console_pb2.FreezeDatasetRequest(collection="c"))).version
    await ModelCard(name="c-binary", version="v1", kind="binary", network="n", dataset=f"c/{version}", threshold=0.5).save(
        store, "models/c-binary/v1/card.json"
    )
    fitted = {"fitted_on": [shared[:12]]}
    await ModelCard(name="human-c", version="v1", kind="human_detector", network="n", dataset="", threshold=0.5, details=fitted).save(
        store, "models/human-c/v1/card.json"
    )
    for run, label in (("g", "sport"), ("h", "other")):
        await GanRunRecord(
            run=run, collection="c", dataset=f"c/{version}", label=label, resolution=32, preset="tiny", images=3, settings={}, parameters={}, seconds=1,
            ended_because="kimg reached", snapshots=[1.0], best=1.0,
        ).save(store, f"runs/{run}/gan.json")  # fmt: skip
    await store.put_json("reports/r/report.json", {"collection": "c", "dataset": {"version": version}})
    caches = ["prepared/1/index.json", "features/p/1.npz", f"datasets/c/{version}/features/n/1.safetensors", "datasets/c/v0/features/n/1.safetensors"]
    for key in caches:
        await store.put(key, b"pixels")
    rendition = tmp_path / "data" / "thumbnails" / "320" / shared[:2] / f"{shared}.jpg"
    rendition.parent.mkdir(parents=True)
    rendition.write_bytes(b"small")

    async def erase(*ids: str, everywhere: bool = False) -> console_pb2.EraseResponse:
        request = console_pb2.EraseRequest(collection="c", images=ids, reason="asked", requested_by="ann", everywhere=everywhere)
        return await console.Erase(request)

    assert (await refused(erase("abc")))[0] is grpc.StatusCode.INVALID_ARGUMENT
    code, details = await refused(erase(shared, "f" * 64))
    assert code is grpc.StatusCode.NOT_FOUND
    assert "has never seen image ffffffffffff" in details
    assert await facts.last(facts_pb2.Erased, "c", shared) is None, "a request with a mistake does nothing"

    first = await erase(shared)
    held = [f"dataset c/{version}", "model c-binary/v1", "model human-c/v1", "report r", "run g"]
    assert list(first.images) == [console_pb2.ErasedImage(image=shared, collections=["c"], used_by=["d"], held_by=held)]
    assert list(first.cleared) == ["prepared/", "features/", f"datasets/c/{version}/features/"]
    assert [await store.exists(key) for key in caches] == [False, False, False, True]
    assert await store.exists(image_key(shared)), "another collection uses the bytes"
    assert not rendition.exists()
    tombstone = await facts.last(facts_pb2.Erased, "c", shared)
    assert tombstone is not None
    assert (tombstone.fact.reason, tombstone.fact.requested_by, list(tombstone.fact.held_by)) == ("asked", "ann", held)
    assert await facts.last(facts_pb2.Erased, "d", shared) is None
    funnel = await console.GetFunnel(console_pb2.GetFunnelRequest(collection="c"))
    assert (funnel.scraped, funnel.unique, funnel.erased) == (3, 2, 1)

    everywhere = await erase(shared, other, everywhere=True)
    assert [list(i.collections) for i in everywhere.images] == [["c", "d"], ["c"]]
    assert not any(i.used_by for i in everywhere.images)
    assert [await store.exists(image_key(i)) for i in (shared, other, kept)] == [False, False, True]
    again = await facts.last(facts_pb2.Erased, "c", shared)
    assert again is not None
    assert again.sequence == tombstone.sequence, "what is said already is not said again"
    assert list((await erase(shared, other, everywhere=True)).images) == list(everywhere.images)
    assert (await console.FreezeDataset(console_pb2.FreezeDatasetRequest(collection="c"))).images == 1
