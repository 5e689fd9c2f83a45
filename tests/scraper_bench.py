"""What tests of the scraper share: a folder of photos good and bad, the demonstration site, and a bench that runs jobs."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from cosmop_common.bus import Bus
from cosmop_common.collection import Collection
from cosmop_common.collections_kv import Collections
from cosmop_common.facts import Facts
from cosmop_common.jobs import submit
from cosmop_common.pb.cosmop.v1 import facts_pb2, runs_pb2
from cosmop_common.runs import Runs
from cosmop_common.runtime import Runtime
from cosmop_common.store import Store
from cosmop_local.servers import free_ports
from cosmop_scraper.job import scrape_handler
from cosmop_scraper.settings import Settings
from PIL import Image

SOURCE_ATTRIBUTES = {"allow_private_addresses": True, "requests_per_second": 500, "connections_per_host": 16}


def draw(path: Path, seed: int, size: tuple[int, int] = (160, 120)) -> None:
    noise = np.random.default_rng(seed).integers(0, 255, (size[1] // 8, size[0] // 8, 3), dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(noise).resize(size).save(path)


def photo_folder(folder: Path) -> Path:
    """30 good photos of which one is twice there, and six that must be refused."""
    for i in range(29):
        draw(folder / f"group-{i % 3}" / f"photo {i:02d}.jpg", i)
    (folder / "same again.jpg").write_bytes((folder / "group-0" / "photo 00.jpg").read_bytes())
    whole = (folder / "group-1" / "photo 01.jpg").read_bytes()
    (folder / "truncated.jpg").write_bytes(whole[: len(whole) // 2])
    (folder / "page.jpg").write_text("<!doctype html><html><body>not here</body></html>")
    (folder / "heavy.jpg").write_bytes(whole + b"\0" * 300_000)
    draw(folder / "tiny.png", 50, (32, 32))
    draw(folder / "strip.jpg", 51, (1600, 80))
    draw(folder / "private" / "diary.jpg", 52)
    return folder


#: What the folder above must come to.
REFUSED = {"corrupt": 1, "not_an_image": 1, "too_many_bytes": 1, "too_small": 1, "aspect": 1, "robots": 1}


@contextlib.contextmanager
def sites() -> Iterator[Callable[..., str]]:
    """Starts demonstration sites; returns their addresses."""
    running: list[subprocess.Popen[str]] = []

    def start(folder: Path, *more: str) -> str:
        port, image_port = free_ports(2)
        command = [sys.executable, "-m", "cosmop_local.site", "--folder", str(folder), "--port", str(port), "--image-port", str(image_port), *more]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        running.append(process)
        assert process.stdout is not None
        assert "shows" in process.stdout.readline()
        deadline = time.monotonic() + 60
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/robots.txt", timeout=60).close()
                break
            except OSError:
                assert process.poll() is None, "the site has ended"
                assert time.monotonic() < deadline, "the site does not answer"
                time.sleep(0.05)
        return f"http://127.0.0.1:{port}"

    yield start
    for process in running:
        process.terminate()
        process.wait(60)
        assert process.stdout is not None
        process.stdout.close()


class Bench:
    """Runs scrape jobs to their end, as a job process does."""

    def __init__(self, bus: Bus, store: Store) -> None:
        self.bus, self.store, self.facts, self.runs = bus, store, Facts(bus), Runs(bus)

    async def collection(self, **scrape: object) -> None:
        collection = Collection.model_validate(
            {"name": "c", "classes": ["yes", "no"], "positive": "yes", "scrape": SOURCE_ATTRIBUTES | {"max_bytes": 200_000} | scrape}
        )
        await Collections(self.bus).put(collection)

    async def scrape(self, run: str = "", wait: float = 300, settings: Settings | None = None, **job: object) -> runs_pb2.Run:
        submitted = await submit(self.bus, self.runs, "scraper", runs_pb2.Job(run=run, collection="c", scrape=runs_pb2.ScrapeJob(**job)))
        settings = settings or Settings()
        async with Runtime("scraper", settings, serving=False) as runtime:
            worker = asyncio.create_task(runtime.run_jobs({"scrape": scrape_handler(runtime, settings)}))
            watcher = asyncio.create_task(self.ended(submitted.id))
            await asyncio.wait({worker, watcher}, timeout=wait, return_when=asyncio.FIRST_COMPLETED)
            runtime.stopping.set()
            await asyncio.wait_for(worker, 60)
            return await asyncio.wait_for(watcher, 60)

    async def ended(self, run: str) -> runs_pb2.Run:
        """The run, once it has ended."""
        async for state in self.runs.watch(run):
            last = state
        return last

    async def scraped(self) -> dict[str, facts_pb2.Scraped]:
        return {s.fact.image: s.fact async for s in self.facts.replay(facts_pb2.Scraped, "c")}

    async def sighted(self) -> list[facts_pb2.Sighted]:
        return [s.fact async for s in self.facts.replay(facts_pb2.Sighted, "c")]


def refusals(scraped: dict[str, facts_pb2.Scraped]) -> dict[str, int]:
    names = (facts_pb2.RefusalReason.Name(s.refusal.reason) for s in scraped.values() if s.HasField("refusal"))
    return dict(Counter(name.removeprefix("REFUSAL_REASON_").lower() for name in names))
