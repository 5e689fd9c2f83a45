"""What a service's ``__main__`` stands on: settings in, bus, store, gRPC, HTTP and telemetry up, SIGTERM awaited, all drained.

async with Runtime("dedup", settings) as runtime:
runtime.serve(add_DedupServicer_to_server, DedupServicer(...), dedup_pb2)
runtime.consume("dedup-hash", Scraped, hash_image, concurrency=settings.workers)
await runtime.until_stopped()
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import signal
import sys
from collections.abc import Awaitable, Callable, Coroutine
from types import ModuleType, TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

from google.protobuf.message import Message

from cosmop_common.bus import Bus
from cosmop_common.collections_kv import Collections
from cosmop_common.consume import Handler, consume
from cosmop_common.errors import CosmopError, UnreachableError
from cosmop_common.facts import Facts
from cosmop_common.jobs import JobHandler, run_jobs
from cosmop_common.models_kv import ActiveModels
from cosmop_common.runs import Runs
from cosmop_common.settings import ServiceSettings
from cosmop_common.store import Store
from cosmop_common.tasks import end_tasks
from cosmop_common.telemetry import configure_logs

if TYPE_CHECKING:
    from cosmop_common.grpc_server import GrpcServer
    from cosmop_common.http_server import HttpServer

log = logging.getLogger(__name__)
M = TypeVar("M", bound=Message)


class Runtime:
    """The shared body of a service process. As a context manager it connects on entry and drains on exit."""

    bus: Bus
    facts: Facts
    runs: Runs
    collections: Collections
    models: ActiveModels
    store: Store
    grpc: GrpcServer
    http: HttpServer

    def __init__(self, service: str, settings: ServiceSettings, *, serving: bool = True) -> None:
        """Prepares; nothing is opened before the context is entered.

        Args:
            service: its name: "dedup".
            settings: the service's.
            serving: False for a job process, which opens no ports.
        """
        self.service = service
        self.settings = settings
        self.stopping = asyncio.Event()
        self._serving = serving
        self._tasks: list[asyncio.Task[None]] = []
        self._checks: dict[str, Callable[[], bool]] = {}
        self._failure: BaseException | None = None
        self._started = False

    async def __aenter__(self) -> Self:
        """Connects to NATS and the store; installs the signal handlers."""
        configure_logs(self.service, self.settings.log_level)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stopping.set)
        self.bus = await Bus.connect(self.settings, self.service)
        self.store = Store(self.settings)
        await self.store.wait_ready(self.settings.connect_seconds)
        self.facts = Facts(self.bus)
        self.runs = Runs(self.bus)
        self.models = ActiveModels(self.bus)
        self.collections = Collections(self.bus)
        await _provisioned(self.collections.start, self.settings.connect_seconds)
        if self._serving:
            # Not loaded by a job process, whose start they would double.
            from cosmop_common.grpc_server import GrpcServer
            from cosmop_common.http_server import HttpServer

            self.grpc = GrpcServer(self.settings)
            self.http = HttpServer(self.service, self.settings, self.ready)
        return self

    def serve(self, add: Callable[[Any, Any], None], servicer: Any, *contracts: ModuleType) -> None:
        """Adds a gRPC servicer; ``contracts`` are the generated modules, for reflection."""
        from cosmop_common.grpc_server import descriptor_names

        add(servicer, self.grpc.server)
        self.grpc.name(*descriptor_names(contracts))

    def consume(self, consumer: str, message_class: type[M], handler: Handler[M], *, concurrency: int = 1) -> None:
        """Feeds a durable consumer's messages to a handler, from ``until_stopped`` on."""
        self.background(consume(self.bus, consumer, message_class, handler, settings=self.settings, stopping=self.stopping, concurrency=concurrency))

    def background(self, work: Coroutine[Any, Any, None]) -> None:
        """Runs work beside; if it fails, the process ends with its error and its supervisor starts it anew."""
        task = asyncio.create_task(work)
        task.add_done_callback(self._done)
        self._tasks.append(task)

    def readiness(self, part: str, check: Callable[[], bool]) -> None:
        """A further part that must be ready before the service is."""
        self._checks[part] = check

    async def ready(self) -> dict[str, bool]:
        """Each part, and whether it can do its work now."""
        parts = {"started": self._started and not self.stopping.is_set(), "nats": self.bus.ready, "store": await self.store.ready()}
        return parts | {name: check() for name, check in self._checks.items()}

    async def until_stopped(self) -> None:
        """Serves until SIGTERM, SIGINT, or the failure of background work, which is raised."""
        if self._serving:
            grpc_port, http_port = await self.grpc.start(), await self.http.start()
            self._started = True
            await self.grpc.set_ready(True)
            log.info("ready", extra={"grpc_port": grpc_port, "http_port": http_port})
        await self.stopping.wait()
        if self._failure:
            raise self._failure

    async def run_jobs(self, handlers: dict[str, JobHandler], *, idle_seconds: float | None = None) -> None:
        """Takes the service's jobs until told to stop (or idle for so long): the life of a job process."""
        await run_jobs(self.bus, self.service, handlers, settings=self.settings, stopping=self.stopping, idle_seconds=idle_seconds)

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Drains: no new calls, work in flight finishes, connections close."""
        self.stopping.set()
        if self._serving and self._started:
            await self.grpc.stop()
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=self.settings.drain_seconds)
            await end_tasks(late)
        if self._serving:
            await self.http.stop()
        await self.collections.stop()
        await self.bus.close()
        self.store.close()
        log.info("stopped")

    def _done(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and task.exception() is not None:
            self._failure = task.exception()
            self.stopping.set()


async def _provisioned(start: Callable[[], Awaitable[None]], seconds: float) -> None:
    """Waits for ``cosmop provision`` to have been run."""
    deadline = asyncio.get_running_loop().time() + seconds
    while True:
        try:
            return await start()
        except Exception as error:
            if asyncio.get_running_loop().time() > deadline:
                raise UnreachableError(f"NATS answers, but its buckets do not exist ({error}): run `cosmop provision`") from error
            await asyncio.sleep(0.3)


def main(
    serve: Callable[[], Coroutine[Any, Any, None]],
    job: Callable[[float | None], Coroutine[Any, Any, None]] | None = None,
    job_loop: Callable[[], asyncio.AbstractEventLoop] | None = None,
) -> None:
    """The command line of every service: no argument serves; ``job`` takes jobs, in an event loop that ``job_loop`` makes.

    Known errors end the process with one line on stderr and status 1.
    """
    parser = argparse.ArgumentParser()
    if job is not None:
        commands = parser.add_subparsers(dest="command", metavar="[job]")
        jobs = commands.add_parser("job", help="take jobs from the queue instead of serving")
        jobs.add_argument("--idle-seconds", type=float, default=None, help="end when no job came for so long (default: never)")
    arguments = parser.parse_args()
    try:
        if job is not None and arguments.command == "job":
            with asyncio.Runner(loop_factory=job_loop) as runner:
                runner.run(job(arguments.idle_seconds))
        else:
            asyncio.run(serve())
    except CosmopError as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201 - the one line for whoever started it
        raise SystemExit(1) from None
    except KeyboardInterrupt:
        with contextlib.suppress(Exception):
            raise SystemExit(130) from None
