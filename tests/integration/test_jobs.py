"""Jobs on a real JetStream: run once, resumed after a failure, cancelled by a word, ended after fruitless attempts."""

from __future__ import annotations

import asyncio

from cosmop_common.bus import Bus
from cosmop_common.errors import InvalidInputError
from cosmop_common.jobs import run_jobs, submit
from cosmop_common.pb.cosmop.v1 import runs_pb2
from cosmop_common.run_handle import RunHandle
from cosmop_common.runs import Runs
from cosmop_common.settings import ConnectionSettings
from work_off import work_off


def scrape_job(run: str = "") -> runs_pb2.Job:
    return runs_pb2.Job(run=run, collection="c", scrape=runs_pb2.ScrapeJob(source="folder", queries=["x"]))


async def work(bus: Bus, settings: ConnectionSettings, handler) -> None:
    await work_off(bus, "scraper", {"scrape": handler}, settings)


async def test_a_process_that_has_had_nothing_to_do_for_a_while_ends(bus: Bus, settings: ConnectionSettings) -> None:
    async with asyncio.timeout(60):
        await run_jobs(bus, "scraper", {}, settings=settings, stopping=asyncio.Event(), idle_seconds=0.3)


async def test_a_job_runs_once_and_leaves_its_progress(bus: Bus, settings: ConnectionSettings) -> None:
    runs, calls = Runs(bus), 0

    async def handler(run: RunHandle) -> None:
        nonlocal calls
        calls += 1
        with run.stage("fetch", total=3, unit="images") as stage:
            for _ in range(3):
                stage.advance(1, new=1)
        run.result(key="value")

    first = await submit(bus, runs, "scraper", scrape_job("job-1"))
    again = await submit(bus, runs, "scraper", scrape_job("job-1"))
    assert first.id == again.id
    await work(bus, settings, handler)
    await submit(bus, runs, "scraper", scrape_job("job-1"))
    await work(bus, settings, handler)
    run = await runs.get("job-1")
    assert calls == 1
    assert run.state == runs_pb2.RUN_STATE_SUCCEEDED
    assert run.stages[0].done == 3
    assert run.stages[0].counts["new"] == 3
    assert run.result["key"] == "value"


async def test_a_job_that_fails_is_tried_three_times(bus: Bus, settings: ConnectionSettings) -> None:
    runs, calls = Runs(bus), 0

    async def handler(run: RunHandle) -> None:
        nonlocal calls
        calls += 1
        raise RuntimeError("no luck")

    await submit(bus, runs, "scraper", scrape_job("job-2"))
    await work(bus, settings, handler)
    run = await runs.get("job-2")
    assert calls == 3
    assert run.state == runs_pb2.RUN_STATE_FAILED
    assert run.error == "no luck"
    assert (await bus.js.stream_info("DEAD")).state.messages == 1


async def test_bad_input_fails_at_once(bus: Bus, settings: ConnectionSettings) -> None:
    runs, calls = Runs(bus), 0

    async def handler(run: RunHandle) -> None:
        nonlocal calls
        calls += 1
        raise InvalidInputError("folder x has no images")

    await submit(bus, runs, "scraper", scrape_job("job-3"))
    await work(bus, settings, handler)
    assert calls == 1
    assert (await runs.get("job-3")).error == "folder x has no images"


async def test_cancelling_is_a_word_that_the_job_sees(bus: Bus, settings: ConnectionSettings) -> None:
    runs = Runs(bus)
    begun = asyncio.Event()

    async def handler(run: RunHandle) -> None:
        begun.set()
        while True:
            run.check()
            await asyncio.sleep(0.05)

    await submit(bus, runs, "scraper", scrape_job("job-4"))
    worker = asyncio.create_task(work(bus, settings, handler))
    await begun.wait()
    await runs.cancel("job-4")
    await worker
    assert (await runs.get("job-4")).state == runs_pb2.RUN_STATE_CANCELLED


async def test_a_job_interrupted_by_a_stop_goes_on_later(bus: Bus, settings: ConnectionSettings) -> None:
    runs, begun, calls = Runs(bus), asyncio.Event(), 0

    async def handler(run: RunHandle) -> None:
        nonlocal calls
        calls += 1
        if calls > 1:
            return
        begun.set()
        while True:
            run.check()
            await asyncio.sleep(0.05)

    await submit(bus, runs, "scraper", scrape_job("job-5"))
    stopping = asyncio.Event()
    worker = asyncio.create_task(run_jobs(bus, "scraper", {"scrape": handler}, settings=settings, stopping=stopping))
    await begun.wait()
    stopping.set()
    await asyncio.wait_for(worker, 60)
    assert (await runs.get("job-5")).state == runs_pb2.RUN_STATE_QUEUED
    await work(bus, settings, handler)
    assert (await runs.get("job-5")).state == runs_pb2.RUN_STATE_SUCCEEDED
