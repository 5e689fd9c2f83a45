"""What a scrape that runs for a week meets: a network that goes and comes back, hosts that die, stores that are full for a while."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from cosmop_common.bus import Bus
from cosmop_common.errors import StorageFullError
from cosmop_common.pb.cosmop.v1 import runs_pb2
from cosmop_common.store import Store
from cosmop_local.servers import free_ports
from cosmop_scraper import patience, record
from cosmop_scraper.errors import FetchError
from cosmop_scraper.patience import PatientFetcher, StorePatience
from cosmop_scraper.politeness import Politeness
from cosmop_scraper.settings import Settings
from scraper_bench import Bench, photo_folder
from scraper_servers import serving


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "_FIRST_WAIT", 0.1)
    monkeypatch.setattr(patience, "_LONGEST_WAIT", 0.2)


@pytest.fixture
async def fetcher() -> AsyncIterator[PatientFetcher]:
    made = PatientFetcher(Settings(fetch_attempts=1, outage_seconds=300), Politeness(1000, 8), respect_robots=True, allow_private=True)
    yield made
    await made.close()


async def test_requests_wait_while_the_network_is_away(fetcher: PatientFetcher, monkeypatch: pytest.MonkeyPatch) -> None:
    plugged_in, connect = True, fetcher.backend.connect_tcp

    async def over_the_cable(*arguments: object, **named: object) -> object:
        if not plugged_in:
            raise FetchError("Temporary failure in name resolution")
        return await connect(*arguments, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(fetcher.backend, "connect_tcp", over_the_cable)
    pages = {f"/{i}": lambda r: r.answer(b"x", connection="close") for i in range(8)}
    async with serving(pages) as one, serving(pages) as two:
        urls = [f"{server.origin}/{i}" for i in range(4) for server in (one, two)]
        await fetcher.get(urls[0], max_bytes=9)
        plugged_in = False
        with pytest.raises(FetchError):
            await fetcher.get(f"{one.origin}/7", max_bytes=9)  # one host alone may be dead
        waiting = [asyncio.create_task(fetcher.get(url, max_bytes=9)) for url in reversed(urls[1:])]
        async with asyncio.timeout(60):
            while not fetcher.network.away:  # noqa: ASYNC110 - it does not tell
                await asyncio.sleep(0.01)
        plugged_in = True
        came = await asyncio.wait_for(asyncio.gather(*waiting, return_exceptions=True), 60)
        assert [answer for answer in came if isinstance(answer, BaseException)] == []
        assert not fetcher.network.away


async def test_hosts_that_die_beside_living_ones_are_not_waited_for(fetcher: PatientFetcher, monkeypatch: pytest.MonkeyPatch) -> None:
    async def wait() -> bool:
        raise AssertionError("waited for")

    monkeypatch.setattr(fetcher.network, "_wait", wait)
    async with serving({"/x": lambda r: r.answer(b"x")}) as living:
        await fetcher.get(f"{living.origin}/x", max_bytes=9)
        for port in free_ports(5):
            with pytest.raises(FetchError):
                await fetcher.get(f"http://127.0.0.1:{port}/x", max_bytes=9)
        await fetcher.get(f"{living.origin}/x", max_bytes=9)


async def test_an_outage_is_not_waited_for_for_ever(fetcher: PatientFetcher) -> None:
    fetcher.network._most_seconds = 0.3
    async with serving({"/x": lambda r: r.answer(b"x", connection="close")}) as server:
        await fetcher.get(f"{server.origin}/x", max_bytes=9)
    for port in free_ports(2):
        with pytest.raises(FetchError):
            await asyncio.wait_for(fetcher.get(f"http://127.0.0.1:{port}/x", max_bytes=9), 60)


async def test_a_store_that_is_full_for_a_while_is_waited_for(bus: Bus, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bench, room, write = Bench(bus, store), asyncio.Event(), record.Recorder.record

    async def full(recorder: record.Recorder, *arguments: object) -> object:
        if not room.is_set():
            raise StorageFullError("the object store is full: free space")
        return await write(recorder, *arguments)  # type: ignore[arg-type]

    async def told() -> bool:
        run = await bench.runs.find("r")
        return run is not None and any("waits: the object store is full" in stage.message for stage in run.stages)

    monkeypatch.setattr(record.Recorder, "record", full)
    await bench.collection()
    working = asyncio.create_task(bench.scrape(run="r", source="folder", queries=[str(photo_folder(tmp_path / "photos"))]))
    async with asyncio.timeout(120):
        while not await told():  # noqa: ASYNC110 - it stays full until the run says so
            await asyncio.sleep(0.05)
    room.set()
    run = await working
    assert run.state == runs_pb2.RUN_STATE_SUCCEEDED, run.error
    assert run.stages[0].counts["new"] == 30


async def test_patience_with_stores_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """Less than half a second of patience, on a clock that only waiting moves."""
    now, tries = 0.0, 0

    async def sleep(seconds: float) -> None:
        nonlocal now
        now += seconds

    monkeypatch.setattr(patience, "time", SimpleNamespace(monotonic=lambda: now))
    monkeypatch.setattr(patience, "asyncio", SimpleNamespace(sleep=sleep))
    stores = StorePatience(0.45)

    async def full() -> None:
        nonlocal tries
        tries += 1
        raise StorageFullError("full")

    with pytest.raises(StorageFullError):
        await stores.insist(full, lambda: False)
    assert tries == 3
    tries = 0
    with pytest.raises(StorageFullError):
        await stores.insist(full, lambda: True)
    assert tries == 1
