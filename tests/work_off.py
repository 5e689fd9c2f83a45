"""What tests of jobs share: working off a service's queue, and job processes of their own that are ended by a word."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterable, Mapping

from cosmop_common.bus import Bus
from cosmop_common.jobs import JobHandler, run_jobs
from cosmop_common.pb.cosmop.v1 import runs_pb2
from cosmop_common.runs import Runs
from cosmop_common.settings import ConnectionSettings
from cosmop_common.topology import CONSUMERS


async def work_off(
    bus: Bus,
    service: str,
    handlers: dict[str, JobHandler],
    settings: ConnectionSettings,
    *,
    stopping: asyncio.Event | None = None,
    seconds: float = 500,
) -> None:
    """Takes a service's jobs as its job process does, until ``stopping``, or until none is left: none waits, is under way, or will be tried again.

    Not ``idle_seconds``: a machine that needs longer than those for the first fetch would end before it has begun.
    """
    stop = stopping or asyncio.Event()
    spec = CONSUMERS[f"jobs-{service}"]
    worker = asyncio.create_task(run_jobs(bus, service, handlers, settings=settings, stopping=stop))
    async with asyncio.timeout(seconds):
        while not worker.done() and not stop.is_set():
            with contextlib.suppress(TimeoutError):  # of this one question
                info = await bus.js.consumer_info(spec.stream, spec.name)
                if not info.num_pending and not info.num_ack_pending:
                    stop.set()
            await asyncio.sleep(0.05)
        await worker


@contextlib.asynccontextmanager
async def job_process(service: str, environment: Mapping[str, str], log: int | None = None) -> AsyncIterator[asyncio.subprocess.Process]:
    """``python -m cosmop_<service> job``, told to end on leaving: it must end well."""
    command = [sys.executable, "-m", f"cosmop_{service.replace('-', '_')}", "job"]
    process = await asyncio.create_subprocess_exec(*command, env=os.environ | dict(environment), stdout=log, stderr=subprocess.STDOUT if log else None)
    try:
        yield process
        process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(process.wait(), 60) == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def ended(bus: Bus, run: str, *, while_alive: Iterable[asyncio.subprocess.Process] = (), seconds: float = 300) -> runs_pb2.Run:
    """A run, once it has ended; fails at once where a process that should do it has died."""

    async def last() -> runs_pb2.Run:
        async for state in Runs(bus).watch(run):
            newest = state
        return newest

    watching = asyncio.create_task(last())
    deaths = [asyncio.create_task(process.wait()) for process in while_alive]
    try:
        await asyncio.wait({watching, *deaths}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        assert watching.done(), f"run {run} has not ended; processes: {[p.returncode for p in while_alive]}"
        return watching.result()
    finally:
        for task in (watching, *deaths):
            task.cancel()
