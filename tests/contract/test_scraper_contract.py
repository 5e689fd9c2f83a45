"""The gRPC contract of the scraper, over a real channel: all six methods, and errors as statuses."""

from __future__ import annotations

from collections.abc import AsyncIterator

import grpc
import pytest
from cosmop_common.bus import Bus
from cosmop_common.collection import Collection
from cosmop_common.collections_kv import Collections
from cosmop_common.endpoints import channel
from cosmop_common.pb.cosmop.v1 import runs_pb2, scraper_pb2, scraper_pb2_grpc
from cosmop_common.runtime import Runtime
from cosmop_scraper.service import ScraperServicer
from cosmop_scraper.settings import Settings


@pytest.fixture
async def scraper(bus: Bus) -> AsyncIterator[scraper_pb2_grpc.ScraperAsyncStub]:
    await Collections(bus).put(Collection.model_validate({"name": "c", "classes": ["yes", "no"], "positive": "yes"}))
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


@pytest.mark.parametrize(
    ("bad", "code", "words"),
    [
        (scraper_pb2.SubmitJobRequest(collection="nope"), grpc.StatusCode.NOT_FOUND, "nope"),
        (request(source="gogle"), grpc.StatusCode.INVALID_ARGUMENT, "gogle"),
        (request(source="google"), grpc.StatusCode.FAILED_PRECONDITION, "/nowhere/chrome"),
        (request(queries=[]), grpc.StatusCode.INVALID_ARGUMENT, "keywords"),
    ],
)
async def test_what_cannot_be_run_is_refused_at_once(
    scraper: scraper_pb2_grpc.ScraperAsyncStub, bad: scraper_pb2.SubmitJobRequest, code: grpc.StatusCode, words: str
) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await scraper.SubmitJob(bad)
    assert caught.value.code() == code
    assert words in str(caught.value.details())


async def test_unknown_runs_are_not_found(scraper: scraper_pb2_grpc.ScraperAsyncStub) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await scraper.GetJob(runs_pb2.GetRunRequest(run="none"))
    assert caught.value.code() == grpc.StatusCode.NOT_FOUND


async def test_sources_say_whether_they_can_run_here(scraper: scraper_pb2_grpc.ScraperAsyncStub) -> None:
    sources = {s.name: s for s in (await scraper.ListSources(scraper_pb2.ListSourcesRequest())).sources}
    assert sources["folder"].available
    assert not sources["google"].available
    assert "/nowhere/chrome" in sources["google"].unavailable_because
