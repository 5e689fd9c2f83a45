"""Scaling out keeps the promise: the rate that one host sees stays within its limit, and nothing is fetched twice."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path

import pytest
from cosmop_common.bus import Bus
from cosmop_common.jobs import submit
from cosmop_common.pb.cosmop.v1 import runs_pb2
from cosmop_common.runtime import Runtime
from cosmop_common.settings import ConnectionSettings
from cosmop_common.store import Store
from cosmop_scraper.fetch import Fetcher
from cosmop_scraper.job import scrape_handler
from cosmop_scraper.peers import Peers
from cosmop_scraper.politeness import Politeness
from cosmop_scraper.settings import Settings
from scraper_bench import Bench, draw
from scraper_servers import Answer, serving

RATE = 40
SECONDS = 4.0


async def replica(settings: ConnectionSettings, origin: str, until: float) -> None:
    """One scraper that asks one host as fast as it may, over a connection to NATS of its own."""
    bus = await Bus.connect(settings, "replica")
    peers = await Peers.join(bus, "c", lambda _digest: None)
    fetcher = Fetcher(Settings(), Politeness(RATE, 4, peers), respect_robots=False, allow_private=True)

    async def ask() -> None:
        while asyncio.get_running_loop().time() < until:
            await fetcher.get(f"{origin}/x", max_bytes=100, robots=False)

    await asyncio.gather(ask(), ask(), ask())
    await fetcher.close()
    await peers.leave()
    await bus.close()


@pytest.mark.parametrize("replicas", [1, 2, 4, 8])
async def test_the_rate_that_one_host_sees_stays_within_its_limit(bus: Bus, settings: ConnectionSettings, replicas: int) -> None:
    async with serving({"/x": lambda r: r.answer(b"x")}) as server:
        until = asyncio.get_running_loop().time() + SECONDS + 0.5
        await asyncio.gather(*(replica(settings, server.origin, until) for _ in range(replicas)))
        first = server.times[0]
        within = [t for t in server.times if first + 0.5 <= t <= first + 0.5 + SECONDS - 0.6]
        rate = len(within) / (SECONDS - 0.6)
    assert rate <= RATE * 1.1
    assert rate >= RATE * 0.7  # a loaded machine is late, never early


async def test_a_scraper_that_joins_later_slows_the_first_one_down(bus: Bus, settings: ConnectionSettings) -> None:
    async with serving({"/x": lambda r: r.answer(b"x")}) as server:
        now = asyncio.get_running_loop().time()
        first = asyncio.create_task(replica(settings, server.origin, now + 4))
        await asyncio.sleep(2)
        await asyncio.gather(first, replica(settings, server.origin, now + 4))
        for start in (0.5, 1.7, 2.5):
            assert len([t for t in server.times if start <= t - now < start + 1]) <= RATE * 1.1 + 1


async def test_two_jobs_at_once_fetch_nothing_twice(bus: Bus, store: Store, tmp_path: Path) -> None:
    bench = Bench(bus, store)
    await bench.collection()
    for i in range(40):
        draw(tmp_path / f"{i}.jpg", i)
    page = "".join(f'<img src="/{i}.jpg">' for i in range(40)).encode()

    def photo(number: int) -> Answer:
        data = (tmp_path / f"{number}.jpg").read_bytes()
        return lambda request: request.answer(data, content_type="image/jpeg")

    answers: dict[str, Answer] = {f"/{i}.jpg": photo(i) for i in range(40)}
    async with serving(answers | {"/page": lambda r: r.answer(page, content_type="text/html")}) as server:
        runs = [
            await submit(
                bus, bench.runs, "scraper", runs_pb2.Job(collection="c", scrape=runs_pb2.ScrapeJob(source="web", queries=[f"{server.origin}/page?{i}"]))
            )
            for i in (1, 2)
        ]
        settings = Settings()

        async def work() -> None:
            async with Runtime("scraper", settings, serving=False) as runtime:
                await runtime.run_jobs({"scrape": scrape_handler(runtime, settings)}, idle_seconds=1)

        await asyncio.wait_for(asyncio.gather(work(), work()), 60)
        fetched = Counter(path for path in server.asked if path.endswith(".jpg"))
    ended = [await bench.runs.get(run.id) for run in runs]
    assert [run.state for run in ended] == [runs_pb2.RUN_STATE_SUCCEEDED] * 2, [run.error for run in ended]
    assert set(fetched.values()) == {1}
    assert len(fetched) == 40
    assert sum(run.stages[0].counts["fetched"] for run in ended) == len(await bench.sighted()) == 40
