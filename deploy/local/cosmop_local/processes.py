"""One process that is kept running: started in a session of its own, watched, started again when it dies, drained."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import os
import signal
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from cosmop_common.errors import CosmopError

from cosmop_local.guard import MARK, end, marked

log = logging.getLogger(__name__)

State = Literal["waiting", "starting", "ready", "restarting", "stopped", "failed"]

_READY_SECONDS = 180.0
_POLL_SECONDS = 0.1
#: Deaths in a row, none of them after a life of this many seconds, that make a crash loop.
_CRASHES = 5
_HEALTHY_SECONDS = 30.0
_MAX_BACKOFF = 10.0
_MAX_LOG_BYTES = 20 << 20
_starts = itertools.count(1)


class CrashLoopError(CosmopError):
    """A process died again and again; the message names its log and its last words."""


@dataclass(frozen=True)
class Spec:
    """What to run, and how one knows that it is ready."""

    name: str
    command: list[str]
    environment: Mapping[str, str]
    log: Path
    #: None: ready as soon as it runs.
    ready: Callable[[], Awaitable[bool]] | None = None
    #: Seconds between SIGTERM and SIGKILL.
    drain_seconds: float = 20.0
    #: CPU priority: a higher number yields to lower ones.
    nice: int = 0


@dataclass
class Child:
    """A running process; ``wait`` returns its status once it and all that it started have ended."""

    spec: Spec
    process: asyncio.subprocess.Process
    mark: str
    began: float = field(default_factory=time.monotonic)

    @classmethod
    async def start(cls, spec: Spec, mark: str) -> Child:
        """Starts it; stdout and stderr go to its log, which is begun anew when it has grown large."""
        if spec.log.exists() and spec.log.stat().st_size > _MAX_LOG_BYTES:
            spec.log.replace(spec.log.with_suffix(".1.log"))
        own = f"{mark}/{spec.name}/{next(_starts)}/"
        with spec.log.open("ab") as sink:
            process = await asyncio.create_subprocess_exec(
                *spec.command,
                env={**spec.environment, MARK: own},
                stdin=asyncio.subprocess.DEVNULL,
                stdout=sink,
                stderr=sink,
                start_new_session=True,
            )
        if spec.nice:
            with contextlib.suppress(OSError):
                os.setpriority(os.PRIO_PROCESS, process.pid, spec.nice)
        return cls(spec, process, own)

    @property
    def running(self) -> bool:
        """Whether it has not ended."""
        return self.process.returncode is None

    async def wait(self) -> int:
        """Waits for its end, then ends what it left behind (a browser, a pool of workers)."""
        status = await self.process.wait()
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)
        if left := await asyncio.to_thread(marked, self.mark):
            await asyncio.to_thread(end, left, 0)
        return status

    async def stop(self) -> int:
        """SIGTERM, and SIGKILL when the drain takes too long."""
        with contextlib.suppress(ProcessLookupError):
            self.process.terminate()
        try:
            await asyncio.wait_for(asyncio.shield(self.process.wait()), self.spec.drain_seconds)
        except TimeoutError:
            log.warning("%s did not end within %.0f s and is killed", self.spec.name, self.spec.drain_seconds)
            with contextlib.suppress(ProcessLookupError):
                self.process.kill()
        return await self.wait()


class Supervised:
    """A process that should run always. ``start`` begins, ``became_ready`` waits, ``failure`` tells of a crash loop."""

    def __init__(self, spec: Spec, mark: str, changed: Callable[[], None]) -> None:
        self.spec = spec
        self.state: State = "waiting"
        self.restarts = 0
        self.child: Child | None = None
        self.failure: CrashLoopError | None = None
        self._mark = mark
        self._changed = changed
        self._ready = asyncio.Event()
        self._stopping = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int | None:
        """Of the process that runs now."""
        return self.child.process.pid if self.child and self.child.running else None

    def start(self) -> None:
        """Begins to keep it running."""
        self._task = asyncio.create_task(self._keep())

    async def became_ready(self) -> None:
        """Waits until it is ready. Raises ``CrashLoopError``."""
        await self._ready.wait()
        if self.failure:
            raise self.failure

    async def stop(self) -> None:
        """Drains it and starts it no more."""
        self._stopping.set()
        if self._task:
            await self._task

    def _set(self, state: State) -> None:
        self.state = state
        self._changed()

    async def _keep(self) -> None:
        crashes = 0
        while not self._stopping.is_set():
            self._set("starting")
            self.child = await Child.start(self.spec, self._mark)
            reason = await self._live(self.child)
            if self._stopping.is_set():
                break
            crashes = 1 if time.monotonic() - self.child.began > _HEALTHY_SECONDS else crashes + 1
            self.restarts += 1
            log.warning("%s %s and is started again", self.spec.name, reason)
            if crashes >= _CRASHES:
                self.failure = CrashLoopError(f"{self.spec.name} {reason}, {crashes} times in a row: {self.spec.log} says why{last_words(self.spec.log)}")
                self._set("failed")
                self._ready.set()
                return
            self._set("restarting")
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), min(_MAX_BACKOFF, 0.25 * 2**crashes))
        self._set("stopped")

    async def _live(self, child: Child) -> str:
        """Sees a child from its start to its end; says how it ended."""
        ended = asyncio.create_task(child.wait())
        told = asyncio.create_task(self._stopping.wait())
        probe = asyncio.create_task(self._until_ready(child))
        try:
            await asyncio.wait({ended, told, probe}, return_when=asyncio.FIRST_COMPLETED)
            if probe.done() and not ended.done() and not told.done():
                if not probe.result():
                    late = child.running
                    await child.stop()
                    return f"was not ready within {_READY_SECONDS:.0f} s" if late else describe(await ended)
                self._ready.set()
                self._set("ready")
                await asyncio.wait({ended, told}, return_when=asyncio.FIRST_COMPLETED)
            if not ended.done():
                await child.stop()
            return describe(await ended)
        finally:
            for task in (told, probe):
                task.cancel()
            await asyncio.gather(told, probe, return_exceptions=True)

    async def _until_ready(self, child: Child) -> bool:
        deadline = time.monotonic() + _READY_SECONDS
        while self.spec.ready and not await self.spec.ready():
            if time.monotonic() > deadline or not child.running:
                return False
            await asyncio.sleep(_POLL_SECONDS)
        return True


def describe(status: int) -> str:
    """An exit status in words."""
    if status < 0:
        return f"was ended by {signal.Signals(-status).name}"
    return f"ended with status {status}"


def last_words(path: Path) -> str:
    """The last line of a log, for a message."""
    with contextlib.suppress(OSError):
        lines = path.read_bytes()[-4096:].decode(errors="replace").strip().splitlines()
        if lines:
            return f"; its last line: {lines[-1][:400]}"
    return ""
