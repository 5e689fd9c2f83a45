"""The job ``scrape``: its parts put together from its own words, its collection's, and what earlier attempts have left."""

from __future__ import annotations

import asyncio
import contextlib

from cosmop_common.jobs import JobHandler
from cosmop_common.names import run_key
from cosmop_common.run_handle import RunHandle
from cosmop_common.runtime import Runtime
from cosmop_common.tasks import end_tasks

from cosmop_scraper.attempt import Scrape
from cosmop_scraper.candidate import SourceContext
from cosmop_scraper.depot import Depot
from cosmop_scraper.download import Downloader
from cosmop_scraper.options import Plan, plan
from cosmop_scraper.patience import PatientFetcher, StorePatience
from cosmop_scraper.peers import Peers
from cosmop_scraper.politeness import Politeness
from cosmop_scraper.pressure import Pressure
from cosmop_scraper.queries import Queries
from cosmop_scraper.record import Recorder
from cosmop_scraper.seen import Seen
from cosmop_scraper.settings import Settings
from cosmop_scraper.tally import Tally

STAGE = "scrape"


def scrape_handler(runtime: Runtime, settings: Settings) -> JobHandler:
    """The handler of ``scrape`` jobs."""

    async def scrape(run: RunHandle) -> None:
        collection = await runtime.collections.get(run.job.collection)
        await _scrape(runtime, settings, run, plan(run.job.scrape, collection.scrape, settings))

    return scrape


async def _scrape(runtime: Runtime, settings: Settings, run: RunHandle, what: Plan) -> None:
    """Runs one job from whatever state it was left in."""

    async def keep(name: str, data: bytes, media_type: str) -> str:
        key = run_key(run.id, name)
        await runtime.store.put(key, data, media_type)
        return key

    scrape = what.scrape
    earlier = run.find_stage(STAGE)
    with run.stage(STAGE, total=what.images, unit="images") as stage:
        async with contextlib.AsyncExitStack() as stack:
            seen = Seen()
            # Listening comes before reading, so that what others claim meanwhile is not missed.
            peers = await Peers.join(runtime.bus, run.job.collection, seen.hear)
            stack.push_async_callback(peers.leave)
            await seen.rebuild(runtime.facts, run.job.collection, respect_robots=scrape.respect_robots)
            stack.push_async_callback(seen.stop)
            politeness = Politeness(scrape.requests_per_second, scrape.connections_per_host, peers, settings.max_retry_after)
            fetcher = PatientFetcher(settings, politeness, respect_robots=scrape.respect_robots, allow_private=scrape.allow_private_addresses)
            stack.push_async_callback(fetcher.close)
            results = dict(earlier.result) if earlier else {}

            def remember(key: str, value: str) -> None:
                stage.result(**{key: value})

            queries = Queries(results, remember)
            source = what.source(SourceContext(settings, scrape, what.options, fetcher, keep, what.images, results, remember, queries.ended))
            stack.push_async_callback(source.close)
            pressure = Pressure(runtime.bus, settings.high_water)
            watcher = asyncio.create_task(pressure.watch())
            stack.push_async_callback(end_tasks, [watcher])
            downloader = Downloader(fetcher, scrape, settings.agent)
            stack.callback(downloader.close)
            depot = Depot(runtime.store, settings)
            stack.push_async_callback(depot.close)
            work = Scrape(
                run,
                stage,
                what,
                source,
                downloader,
                Recorder(runtime.facts, depot, seen, collection=run.job.collection, run=run.id, source=source.name, keep_location=scrape.keep_location),
                seen,
                peers,
                pressure,
                fetcher.memory,
                Tally(dict(earlier.counts) if earlier else None),
                queries,
                fetcher.network,
                StorePatience(settings.outage_seconds),
                asyncio.Semaphore(settings.backlog),
            )
            await work.work()
