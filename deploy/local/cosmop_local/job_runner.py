"""Long work from zero: a job process is started when its queue holds work, as KEDA does on a cluster; it ends itself when idle."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable

import nats.errors
from cosmop_common.bus import Bus
from nats.js.errors import APIError

from cosmop_local.processes import Child, CrashLoopError, Spec, describe, last_words

log = logging.getLogger(__name__)

_POLL_SECONDS = 0.5
#: Deaths in a row after which the queue will not be served by trying again. More than the attempts that a job has
#: (a job that kills its process is ended by its own count).
_CRASHES = 8
_MAX_BACKOFF = 10.0


class JobRunner:
    """At most one job process of one service."""

    def __init__(self, service: str, spec: Spec, mark: str, changed: Callable[[], None]) -> None:
        self.service = service
        self.spec = spec
        self.started = 0
        self.child: Child | None = None
        self.failure: CrashLoopError | None = None
        self._mark = mark
        self._changed = changed
        self._stopping = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int | None:
        """Of the process that runs now."""
        return self.child.process.pid if self.child and self.child.running else None

    def start(self, bus: Bus) -> None:
        """Begins to watch the queue."""
        self._task = asyncio.create_task(self._watch(bus))

    async def stop(self) -> None:
        """Lets the process write its checkpoint and end; starts no more."""
        self._stopping.set()
        if self._task:
            await self._task

    async def _watch(self, bus: Bus) -> None:
        crashes = 0
        while not self._stopping.is_set():
            if not await _waiting(bus, self.service):
                await self._pause(_POLL_SECONDS)
                continue
            began = time.monotonic()
            status = await self._run()
            if self._stopping.is_set() or status == 0:
                crashes = 0
                continue
            crashes += 1
            log.warning("%s %s; its jobs are delivered again", self.spec.name, describe(status))
            if crashes >= _CRASHES:
                self.failure = CrashLoopError(
                    f"{self.spec.name} {describe(status)}, {crashes} times in a row: {self.spec.log} says why{last_words(self.spec.log)}"
                )
                self._changed()
                return
            # A process that worked for a while is replaced at once.
            await self._pause(min(_MAX_BACKOFF, 0.25 * 2**crashes) if time.monotonic() - began < _MAX_BACKOFF else _POLL_SECONDS)

    async def _run(self) -> int:
        child = self.child = await Child.start(self.spec, self._mark)
        self.started += 1
        self._changed()
        ended, told = asyncio.create_task(child.wait()), asyncio.create_task(self._stopping.wait())
        await asyncio.wait({ended, told}, return_when=asyncio.FIRST_COMPLETED)
        told.cancel()
        if not ended.done():
            await child.stop()
        status = await ended
        self._changed()
        return status

    async def _pause(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), seconds)


async def _waiting(bus: Bus, service: str) -> bool:
    """Whether jobs wait, or were given to a process that may be dead."""
    try:
        info = await bus.js.consumer_info("JOBS", f"jobs-{service}", timeout=5)
    except (TimeoutError, nats.errors.Error, APIError) as error:
        log.debug("the queue of %s could not be read: %s", service, error)
        return False
    return (info.num_pending or 0) + (info.num_ack_pending or 0) > 0
