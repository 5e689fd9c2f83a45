"""The gRPC contract of the scraper, over a real channel: all six methods, and errors as statuses."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import grpc
import pytest
from cosmop_common.bus import Bus
from cosmop_common.collection import Collection
from cosmop_common.collections_kv import Collections
from cosmop_common.endpoints import channel
from cosmop_common.pb.cosmop.v1 import runs_pb2, scraper_pb2, scraper_pb2_grpc
from cosmop_common.runs import Runs
from cosmop_common.runtime import Runtime
from cosmop_scraper.service import ScraperServicer
from cosmop_scraper.settings import Settings


@pytest.fixture
async def scraper(bus: Bus) -> AsyncIterator[scraper_pb2_grpc.ScraperAsyncStub]:
    await Collections(bus).put(Collection.model_validate({"name": "c", "classes": ["yes", "no"], "positive": "yes"}))
    await Runs(bus).create(runs_pb2.Run(id="gan-run", kind="gan-trainer.train_gan", collection="c", state=runs_pb2.RUN_STATE_RUNNING))
    settings = Settings(grpc_port=0, http_port=0, chrome_binary="/nowhere/chrome")
    async with Runtime("scraper", settings) as runtime:
        runtime.serve(scraper_pb2_grpc.add_ScraperServicer_to_server, ScraperServicer(runtime, settings), scraper_pb2)
        port = await runtime.grpc.start()
        async with channel(f"127.0.0.1:{port}") as connection:
            yield scraper_pb2_grpc.ScraperStub(connection)
        await runtime.grpc.stop()


def request(run: str = "", **job: object) -> scraper_pb2.SubmitJobRequest:
    return scraper_pb2.SubmitJobRequest(collection="c", run=run, scrape=runs_pb2.ScrapeJob(**({"source": "folder", "queries": ["/tmp"]} | job)))


async def test_a_job_is_submitted_shown_watched_and_cancelled(scraper: scraper_pb2_grpc.ScraperAsyncStub) -> None:
    run = await scraper.SubmitJob(request("mine"))
    assert (run.id, run.kind, run.state) == ("mine", "scraper.scrape", runs_pb2.RUN_STATE_QUEUED)
    assert (await scraper.SubmitJob(request("mine"))).id == "mine"
    other = await scraper.SubmitJob(request())
    assert {r.id for r in (await scraper.ListJobs(runs_pb2.ListRunsRequest(collection="c"))).runs} == {"mine", other.id}
    assert (await scraper.GetJob(runs_pb2.GetRunRequest(run="mine"))).job.scrape.source == "folder"
    assert (await scraper.CancelJob(runs_pb2.CancelRunRequest(run="mine"))).state == runs_pb2.RUN_STATE_CANCELLED
    states = [r.state async for r in scraper.WatchJob(runs_pb2.WatchRunRequest(run="mine"))]
    assert states == [runs_pb2.RUN_STATE_CANCELLED]


REFUSED = [
    (scraper_pb2.SubmitJobRequest(collection="nope"), grpc.StatusCode.NOT_FOUND, "nope"),
    (request(source="gogle"), grpc.StatusCode.INVALID_ARGUMENT, "gogle"),
    (request(source="google"), grpc.StatusCode.FAILED_PRECONDITION, "/nowhere/chrome"),
    (request(queries=[]), grpc.StatusCode.INVALID_ARGUMENT, "keywords"),
    (request(queries=["  "]), grpc.StatusCode.INVALID_ARGUMENT, "keywords"),
    (request(source="x"), grpc.StatusCode.FAILED_PRECONDITION, "COSMOP_X_BEARER_TOKEN"),
    (request(options={"colour": "red"}), grpc.StatusCode.INVALID_ARGUMENT, "no option 'colour'"),
    (request(source="web", options={"max_pages": "many"}), grpc.StatusCode.INVALID_ARGUMENT, "expected a whole number"),
    (request(source="web", options={"sitemap": "maybe"}), grpc.StatusCode.INVALID_ARGUMENT, "expected true or false"),
    (request(max_seconds=-1), grpc.StatusCode.INVALID_ARGUMENT, "max_seconds"),
    (request(max_seconds=float("nan")), grpc.StatusCode.INVALID_ARGUMENT, "max_seconds"),
    (request("two words"), grpc.StatusCode.INVALID_ARGUMENT, "letters, digits"),
    (request("gan-run"), grpc.StatusCode.INVALID_ARGUMENT, "is of gan-trainer.train_gan"),
]


async def test_what_cannot_be_run_is_refused_at_once(scraper: scraper_pb2_grpc.ScraperAsyncStub) -> None:
    for bad, code, words in REFUSED:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await scraper.SubmitJob(bad)
        assert caught.value.code() == code, words
        assert words in str(caught.value.details())
    assert {r.id for r in (await scraper.ListJobs(runs_pb2.ListRunsRequest())).runs} == set()


async def test_runs_that_are_no_scrapes_are_neither_shown_nor_ended(scraper: scraper_pb2_grpc.ScraperAsyncStub, bus: Bus) -> None:
    async def watch(run: str) -> None:
        async for _ in scraper.WatchJob(runs_pb2.WatchRunRequest(run=run)):
            pass

    for run, code in (("none", grpc.StatusCode.NOT_FOUND), ("gan-run", grpc.StatusCode.INVALID_ARGUMENT)):
        for call in (scraper.GetJob(runs_pb2.GetRunRequest(run=run)), scraper.CancelJob(runs_pb2.CancelRunRequest(run=run)), watch(run)):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await call
            assert caught.value.code() == code
    assert not (await Runs(bus).get("gan-run")).cancel


async def test_a_watcher_sees_the_counts_grow_and_the_end(scraper: scraper_pb2_grpc.ScraperAsyncStub, bus: Bus) -> None:
    await scraper.SubmitJob(request("watched"))
    seen: list[tuple[int, int]] = []
    begun = asyncio.Event()

    async def watch() -> None:
        async for run in scraper.WatchJob(runs_pb2.WatchRunRequest(run="watched")):
            seen.append((run.state, run.stages[0].counts["new"] if run.stages else 0))
            begun.set()

    watching = asyncio.create_task(watch())
    await begun.wait()
    for new in (1, 2):
        await Runs(bus).change("watched", lambda r, new=new: _count(r, new))
    await Runs(bus).change("watched", lambda r: setattr(r, "state", runs_pb2.RUN_STATE_SUCCEEDED))
    await asyncio.wait_for(watching, 60)
    assert seen[0] == (runs_pb2.RUN_STATE_QUEUED, 0)
    assert [n for _, n in seen] == sorted(n for _, n in seen)
    assert seen[-1] == (runs_pb2.RUN_STATE_SUCCEEDED, 2)


def _count(run: runs_pb2.Run, new: int) -> None:
    run.state = runs_pb2.RUN_STATE_RUNNING
    stage = run.stages[0] if run.stages else run.stages.add(name="scrape")
    stage.counts["new"] = new


async def test_sources_say_whether_they_can_run_here(scraper: scraper_pb2_grpc.ScraperAsyncStub) -> None:
    sources = {s.name: s for s in (await scraper.ListSources(scraper_pb2.ListSourcesRequest())).sources}
    assert sources["folder"].available
    assert not sources["google"].available
    assert "/nowhere/chrome" in sources["google"].unavailable_because
