"""A scrape whose stages behind, or whose stores, lag: it pauses and goes on, and nothing is lost."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import Any

import nats.errors
import pytest
from cosmop_common.bus import Bus
from cosmop_common.errors import UnreachableError
from cosmop_common.pb.cosmop.v1 import facts_pb2, runs_pb2
from cosmop_common.store import Store
from cosmop_scraper import pressure
from cosmop_scraper.depot import Depot
from cosmop_scraper.pressure import Memory, Pressure
from cosmop_scraper.settings import Settings
from scraper_bench import Bench, draw

PHOTOS = 30


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for seed in range(PHOTOS):
        draw(tmp_path / "photos" / f"{seed}.png", seed)
    return tmp_path / "photos"


@pytest.fixture(autouse=True)
def _quick_look(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pressure, "_POLL_SECONDS", 0.1)


@pytest.fixture
def bench(bus: Bus, store: Store) -> Bench:
    return Bench(bus, store)


async def work_off(bus: Bus) -> None:
    """What dedup does: takes what was scraped, for ever."""
    subscription = await bus.js.pull_subscribe_bind(durable="dedup-hash", stream="FACTS_SCRAPED")
    while True:
        with contextlib.suppress(TimeoutError, nats.errors.TimeoutError):
            for message in await subscription.fetch(1, timeout=1):
                await message.ack()


async def test_the_scrape_pauses_while_the_stages_behind_it_lag(bench: Bench, folder: Path) -> None:
    await bench.collection()
    for i in range(12):
        await bench.facts.create(facts_pb2.Scraped(collection="c", image=f"{i:064x}"))
    scrape = asyncio.create_task(bench.scrape(run="r", source="folder", queries=[str(folder)], settings=Settings(high_water=10)))
    async with asyncio.timeout(120):
        while (run := await bench.runs.find("r")) is None or not run.stages or "pauses" not in run.stages[0].message:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    assert await bench.sighted() == []
    assert not scrape.done()
    worker = asyncio.create_task(work_off(bench.bus))
    run = await scrape
    worker.cancel()
    assert run.state == runs_pb2.RUN_STATE_SUCCEEDED, run.error
    assert run.stages[0].counts["new"] == len(await bench.sighted()) == PHOTOS


async def test_it_goes_on_at_four_fifths_and_not_before(bus: Bus, bench: Bench) -> None:
    gate = Pressure(bus, 10)
    waiting = asyncio.create_task(gate.wait())
    await asyncio.sleep(0.01)
    assert not waiting.done()  # not before the first look
    await gate.look()
    await asyncio.wait_for(waiting, 60)
    for i in range(11):
        await bench.facts.create(facts_pb2.Scraped(collection="c", image=f"{i:064x}"))
    await gate.look()
    assert gate.holding
    subscription = await bus.js.pull_subscribe_bind(durable="dedup-hash", stream="FACTS_SCRAPED")
    for left, holding in ((10, True), (9, True), (8, False)):
        (message,) = await subscription.fetch(1, timeout=60)
        await message.ack_sync()
        await gate.look()
        assert gate.holding is holding, left


async def test_where_nats_does_not_answer_the_last_word_stands(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    looks = 0

    async def silence(*args: Any) -> None:
        nonlocal looks
        looks += 1
        raise nats.errors.TimeoutError

    gate, closed = Pressure(bus, 10), Pressure(bus, 10)
    closed._known = True  # as after a look that found too much
    monkeypatch.setattr(bus.js, "consumer_info", silence)
    for one in (gate, closed):
        task, looks = asyncio.create_task(one.watch()), 0
        async with asyncio.timeout(60):
            while looks < 2:  # noqa: ASYNC110 - then what the first has found is settled
                await asyncio.sleep(0.01)
        task.cancel()
    await asyncio.wait_for(gate.wait(), 60)  # nothing was known: it begins all the same
    assert not gate.holding
    assert closed.holding


async def test_a_slow_store_holds_back_and_memory_stays_bounded(bench: Bench, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    size = max(p.stat().st_size for p in folder.iterdir())  # noqa: ASYNC240
    most, count, put = 0, Memory.count, Depot.put

    def counted(memory: Memory, more: int) -> None:
        nonlocal most
        count(memory, more)
        most = max(most, memory.held)

    async def slow(depot: Depot, *args: Any) -> None:
        await asyncio.sleep(0.1)
        await put(depot, *args)

    monkeypatch.setattr(Memory, "count", counted)
    monkeypatch.setattr(Depot, "put", slow)
    await bench.collection()
    run = await bench.scrape(source="folder", queries=[str(folder)], settings=Settings(memory_bytes=4 * size, backlog=6))
    assert run.state == runs_pb2.RUN_STATE_SUCCEEDED, run.error
    assert run.stages[0].counts["new"] == PHOTOS
    assert 0 < most <= 6 * size


async def test_a_store_that_is_away_for_a_while_costs_nothing(bench: Bench, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put, calls = Depot.put, 0

    async def away(depot: Depot, *args: Any) -> None:
        nonlocal calls
        calls += 1
        if 10 <= calls < 15:
            raise UnreachableError("the object store is away")
        await put(depot, *args)

    monkeypatch.setattr(Depot, "put", away)
    await bench.collection()
    run = await bench.scrape(source="folder", queries=[str(folder)], settings=Settings(backlog=5))
    sighted = await bench.sighted()
    assert run.state == runs_pb2.RUN_STATE_SUCCEEDED, run.error
    assert len(sighted) == len({s.image for s in sighted}) == PHOTOS
    for image in await bench.scraped():
        assert await bench.store.get_image(image)
