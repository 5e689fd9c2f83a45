"""A job process killed again and again loses nothing, says nothing twice, and fetches again only what was in flight."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest
from cosmop_common.bus import Bus
from cosmop_common.jobs import submit
from cosmop_common.pb.cosmop.v1 import runs_pb2
from cosmop_common.store import Store
from scraper_bench import REFUSED, Bench, photo_folder, refusals, sites

KILLS = 3


@pytest.fixture(autouse=True)
def _quick_redelivery(monkeypatch: pytest.MonkeyPatch) -> None:
    """The job of a dead process goes to the next after two seconds, not thirty."""
    monkeypatch.setenv("COSMOP_ACK_WAIT", "2")


async def test_killed_in_the_middle(bus: Bus, store: Store, environment: dict[str, str], tmp_path: Path) -> None:
    bench = Bench(bus, store)
    await bench.collection(requests_per_second=12)
    with sites() as start, (tmp_path / "job.log").open("wb") as log:
        query = f"{start(photo_folder(tmp_path / 'photos'))}/search?q=x"
        run = await submit(bus, bench.runs, "scraper", runs_pb2.Job(collection="c", scrape=runs_pb2.ScrapeJob(source="web", queries=[query])))
        command = [sys.executable, "-m", "cosmop_scraper", "job"]
        for kill in range(1, KILLS + 1):
            process = subprocess.Popen(command, stdout=log, stderr=log)  # noqa: ASYNC220
            while len(await bench.sighted()) < 7 * kill:
                await asyncio.sleep(0.02)
                assert process.poll() is None, (tmp_path / "job.log").read_text()
            process.kill()
            process.wait()
        process = subprocess.Popen(command, stdout=log, stderr=log)  # noqa: ASYNC220
        try:
            async with asyncio.timeout(60):
                async for state in bench.runs.watch(run.id):
                    last = state
        finally:
            process.terminate()
            process.wait(20)
    scraped, sighted = await bench.scraped(), await bench.sighted()
    assert last.state == runs_pb2.RUN_STATE_SUCCEEDED, last.error
    assert len(sighted) == 36
    assert len({s.image_url for s in sighted}) == 36
    assert {s.image for s in sighted} == set(scraped)
    assert refusals(scraped) == REFUSED
