"""Long work: commands on the ``JOBS`` stream, run in a process of their own (``python -m cosmop_<service> job``).

A job taken away (a crash, a SIGTERM) is delivered again and goes on from its checkpoint. Attempts that ended without
progress are counted in the run's state; the third ends it. Cancelling is a word in the run's state that the job watches.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable

from nats.aio.msg import Msg

from cosmop_common.bus import Bus
from cosmop_common.consume import bury, fetch_one, heartbeat
from cosmop_common.errors import CancelledError, CosmopError, StoppingError
from cosmop_common.facts import now
from cosmop_common.names import job_subject
from cosmop_common.pb.cosmop.v1 import runs_pb2
from cosmop_common.run_handle import RunHandle
from cosmop_common.runs import ENDED, Runs, new_run_id
from cosmop_common.settings import ConnectionSettings
from cosmop_common.tasks import end_tasks

log = logging.getLogger(__name__)

_FRUITLESS_ATTEMPTS = 3
_FLUSH_SECONDS = 0.5
_RETRY_SECONDS = 2.0


async def submit(bus: Bus, runs: Runs, service: str, job: runs_pb2.Job) -> runs_pb2.Run:
    """Starts a job and returns its run. The same run id again is the same job: nothing is done twice.

    A run that failed or was cancelled is queued again and goes on from its checkpoint.
    """
    kind = str(job.WhichOneof("spec"))
    job.run = job.run or new_run_id(kind)
    job.at.CopyFrom(now())
    fresh = runs_pb2.Run(
        id=job.run, kind=f"{service}.{kind}", collection=job.collection, state=runs_pb2.RUN_STATE_QUEUED, job=job, created=now(), parent=job.parent
    )
    message_id = job.run
    if not await runs.create(fresh):
        requeued = False

        def again(state: runs_pb2.Run) -> None:
            nonlocal requeued
            requeued = state.state in {runs_pb2.RUN_STATE_FAILED, runs_pb2.RUN_STATE_CANCELLED}
            if requeued:
                state.state, state.cancel, state.error, state.attempts = runs_pb2.RUN_STATE_QUEUED, False, "", 0
                state.job.CopyFrom(job)
                state.ClearField("finished")

        fresh = await runs.change(job.run, again)
        if fresh.state != runs_pb2.RUN_STATE_QUEUED:
            return fresh
        # Queued before: published again in case the first publish was lost; the id keeps it one message.
        message_id = f"{job.run}@{time.time_ns()}" if requeued else job.run
    await bus.js.publish(job_subject(service, kind), job.SerializeToString(), headers={"Nats-Msg-Id": message_id}, timeout=10)
    return fresh


JobHandler = Callable[[RunHandle], Awaitable[None]]


async def run_jobs(
    bus: Bus,
    service: str,
    handlers: dict[str, JobHandler],
    *,
    settings: ConnectionSettings,
    stopping: asyncio.Event,
    idle_seconds: float | None = None,
) -> None:
    """Takes the service's jobs one after the other until ``stopping``; with ``idle_seconds``, until none came for so long.

    Args:
        handlers: by the name of the job's spec: ``{"train_gan": train}``.
    """
    runs = Runs(bus)
    last = time.monotonic()
    idle = asyncio.Event()

    async def watch_idle() -> None:
        while idle_seconds is None or time.monotonic() - last < idle_seconds:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stopping.wait(), 0.2)
                break
        idle.set()

    watcher = asyncio.create_task(watch_idle())
    try:
        async for message in fetch_one(bus, f"jobs-{service}", idle):
            last = float("inf")
            await _run_job(bus, runs, service, handlers, message, settings, stopping)
            last = time.monotonic()
            if stopping.is_set():
                return
    finally:
        await end_tasks([watcher])


async def _run_job(
    bus: Bus, runs: Runs, service: str, handlers: dict[str, JobHandler], message: Msg, settings: ConnectionSettings, stopping: asyncio.Event
) -> None:
    consumer = f"jobs-{service}"
    job = runs_pb2.Job.FromString(message.data)
    state = await runs.find(job.run)
    kind = str(job.WhichOneof("spec"))
    if state is None or kind not in handlers:
        await bury(bus, consumer, message, f"no run {job.run!r}" if state is None else f"{service} does not do {kind!r} jobs")
        return
    if state.state in ENDED:
        await message.ack_sync()
        return
    if state.attempts >= _FRUITLESS_ATTEMPTS:
        await runs.change(job.run, lambda r: _fail(r, f"{r.error or 'the process died'} ({r.attempts} attempts)"))
        await bury(bus, consumer, message, f"{state.attempts} attempts without progress")
        return
    state = await runs.change(job.run, _begin)
    handle = RunHandle(bus, runs, job, state)
    if state.cancel:
        handle.cancelled.set()
    async with heartbeat(message, settings.ack_wait / 3), _tend(handle, stopping):
        await _attempt(handle, handlers[kind], consumer, message)


async def _attempt(handle: RunHandle, handler: JobHandler, consumer: str, message: Msg) -> None:
    """One attempt at a job, and what becomes of its message."""
    try:
        await handler(handle)
        await handle.end(runs_pb2.RUN_STATE_SUCCEEDED)
    except CancelledError:
        await handle.end(runs_pb2.RUN_STATE_CANCELLED)
    except StoppingError:
        await handle.end(runs_pb2.RUN_STATE_QUEUED)
        await message.nak(delay=0.1)
        return
    except Exception as error:  # a job may fail in any way; its run must say so
        known = isinstance(error, CosmopError)
        reason = str(error) or repr(error)
        log.error("job %s failed: %s", handle.id, reason, exc_info=not known)
        await handle.flush()
        attempts = handle.state.attempts
        if attempts >= _FRUITLESS_ATTEMPTS or (isinstance(error, CosmopError) and error.permanent):
            await handle.end(runs_pb2.RUN_STATE_FAILED, reason)
            await bury(handle.bus, consumer, message, reason)
            return
        await handle.end(runs_pb2.RUN_STATE_QUEUED, reason)
        await message.nak(delay=_RETRY_SECONDS * max(attempts, 1))
        return
    await message.ack_sync()


def _begin(run: runs_pb2.Run) -> None:
    run.state = runs_pb2.RUN_STATE_RUNNING
    # Counted before the work, so that a process that dies at once is counted too; an attempt that ends in an
    # interruption takes it back.
    run.attempts += 1
    if not run.HasField("started"):
        run.started.GetCurrentTime()


def _fail(run: runs_pb2.Run, error: str) -> None:
    run.state, run.error = runs_pb2.RUN_STATE_FAILED, error
    run.finished.GetCurrentTime()


@contextlib.asynccontextmanager
async def _tend(handle: RunHandle, stopping: asyncio.Event) -> AsyncIterator[None]:
    """While a job runs: writes its progress, and brings it the words "stop" and "cancel"."""

    async def flush() -> None:
        while True:
            await asyncio.sleep(_FLUSH_SECONDS)
            try:
                await handle.flush()
            except Exception as error:  # noqa: BLE001 - progress is not worth a job; the next flush brings it all
                log.warning("progress of %s could not be written: %s", handle.id, error)
                handle._dirty = True  # noqa: SLF001

    async def listen() -> None:
        async for state in handle.runs.watch(handle.id):
            if state.cancel:
                handle.cancelled.set()

    async def stop() -> None:
        await stopping.wait()
        handle.stopping.set()

    tasks = [asyncio.create_task(t) for t in (flush(), listen(), stop())]
    try:
        yield
    finally:
        await end_tasks(tasks)
