"""Our half of ``benchmarks.scrape``: one job process of the scraper, with a NATS and an object store of its own."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
from cosmop_common.bus import Bus
from cosmop_common.collection import Collection
from cosmop_common.collections_kv import Collections
from cosmop_common.jobs import submit
from cosmop_common.pb.cosmop.v1 import runs_pb2
from cosmop_common.runs import Runs
from cosmop_common.settings import ConnectionSettings
from cosmop_common.store import Store
from cosmop_common.topology import provision
from cosmop_local import servers

#: On PYTHONPATH, its ``sitecustomize`` resolves the site's names.
NAMES = Path(__file__).resolve().parent / "scrape_names"
_COLLECTION = "bench"
_SAMPLE_SECONDS = 0.5


@dataclass(frozen=True)
class Measured:
    """One round of one scraper."""

    images: int
    cpu_seconds: float
    wall_seconds: float
    nats_cpu_seconds: float = 0.0
    store_cpu_seconds: float = 0.0

    @property
    def value(self) -> float:
        """Images per CPU-second."""
        return self.images / self.cpu_seconds


class RunFailedError(RuntimeError):
    """Not all images were fetched: nothing was measured."""


@dataclass(frozen=True)
class Sample:
    """What our process looked like at one moment."""

    seconds: float
    images: int
    #: Resident memory.
    mebibytes: float


async def scrape(folder: Path, urls: Path, images: int, *, profile: Path | None = None, samples: list[Sample] | None = None) -> Measured:
    """One job over all URLs, from the start of its process to its end.

    Args:
        profile: where to write cProfile's statistics.
        samples: takes one twice a second.

    Raises:
        RunFailedError: an image is missing, of those fetched or of the facts.
    """
    with _system(folder) as (environment, nats, store):
        settings = ConnectionSettings()
        bus, run = await _submit(settings, urls)
        before = _cpu(nats), _cpu(store)
        profiler = ["-m", "cProfile", "-o", str(profile)] if profile else []
        command = [sys.executable, *profiler, "-m", "cosmop_scraper", "job", "--idle-seconds", "0.5"]
        started = time.time()
        with (folder / "scraper.log").open("wb") as log:
            process = subprocess.Popen(command, env=os.environ | environment | {"PYTHONPATH": str(NAMES)}, stdout=log, stderr=log)  # noqa: ASYNC220
        watcher = asyncio.create_task(_watch(psutil.Process(process.pid), Runs(bus), run, samples)) if samples is not None else None
        cpu_seconds = await asyncio.to_thread(wait, process)
        if watcher:
            watcher.cancel()
        nats_cpu, store_cpu = _cpu(nats) - before[0], _cpu(store) - before[1]
        state = await Runs(bus).get(run)
        facts = [(await bus.js.stream_info(stream)).state.messages for stream in ("FACTS_SCRAPED", "FACTS_SIGHTED")]
        await bus.close()
        if state.state != runs_pb2.RUN_STATE_SUCCEEDED or {state.stages[0].counts["new"], *facts} != {images}:
            counts = {word: n for word, n in state.stages[0].counts.items() if "|" not in word} if state.stages else {}
            raise RunFailedError(f"not {images} images: {counts} {state.error}\n{(folder / 'scraper.log').read_text()[-2000:]}")
        return Measured(images, cpu_seconds, state.finished.ToMilliseconds() / 1000 - started, nats_cpu, store_cpu)


def wait(process: subprocess.Popen[bytes]) -> float:
    """Waits for a process; returns the CPU-seconds, user and system, of it and its children. Raises ``RunFailedError``."""
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RunFailedError(f"{process.args!r} ended with status {process.returncode}")
    return usage.ru_utime + usage.ru_stime


@contextlib.contextmanager
def _system(folder: Path) -> Iterator[tuple[dict[str, str], psutil.Process, psutil.Process]]:
    """Both servers; yields settings, which this process has in its environment too, and the servers' processes."""
    folder.mkdir(parents=True)
    secret = servers.random_secret()
    nats = servers.nats_spec(folder / "nats", user="bench", password=secret)
    store = servers.store_spec(folder / "store", access_key="bench", secret_key=secret)
    environment = nats.settings | store.settings | {"COSMOP_HIGH_WATER": str(1 << 30), "COSMOP_CONTACT": "bench@example.org", "COSMOP_LOG_LEVEL": "WARNING"}
    running: list[subprocess.Popen[bytes]] = []
    try:
        for spec in (nats, store):
            running.append(servers.start(spec, folder / f"{spec.name}.log"))
        os.environ.update(environment)
        yield environment, psutil.Process(running[0].pid), psutil.Process(running[1].pid)
    finally:
        for process in running:
            servers.stop(process)


async def _submit(settings: ConnectionSettings, urls: Path) -> tuple[Bus, str]:
    """Provisions everything and queues the job; returns the connection and the run's id."""
    store = Store(settings)
    await store.ensure_bucket()
    store.close()
    bus = await Bus.connect(settings, "bench")
    await provision(bus.js, settings)
    wide_open = {"requests_per_second": 1e6, "connections_per_host": 4, "allow_private_addresses": True}
    await Collections(bus).put(Collection.model_validate({"name": _COLLECTION, "classes": ["yes", "no"], "positive": "yes", "scrape": wide_open}))
    job = runs_pb2.Job(collection=_COLLECTION, scrape=runs_pb2.ScrapeJob(source="urls", queries=[str(urls)]))
    return bus, (await submit(bus, Runs(bus), "scraper", job)).id


async def _watch(process: psutil.Process, runs: Runs, run: str, samples: list[Sample]) -> None:
    started = time.monotonic()
    while True:
        await asyncio.sleep(_SAMPLE_SECONDS)
        state = await runs.get(run)
        done = int(state.stages[0].done) if state.stages else 0
        with contextlib.suppress(psutil.NoSuchProcess):
            samples.append(Sample(time.monotonic() - started, done, process.memory_info().rss / 2**20))


def _cpu(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)
