"""The embedded system: servers, provision, all services and their job processes, under one folder and one supervisor.

``async with System(home) as system:`` or ``python -m cosmop_local.supervisor --home DIR``. Order of start: NATS and
the object store, provision, the services side by side; order of stop: the reverse. What dies is started again.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import logging
import os
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from cosmop_common.bus import Bus
from cosmop_common.store import Store
from cosmop_common.topology import JOB_SERVICES, provision

from cosmop_local import servers
from cosmop_local.environment import addresses, connection, process_environment
from cosmop_local.guard import sweep
from cosmop_local.home import Home
from cosmop_local.job_runner import JobRunner
from cosmop_local.processes import Spec, Supervised
from cosmop_local.readiness import answers, threaded

log = logging.getLogger(__name__)

SERVICES = ("scraper", "dedup", "human-detector", "gan-trainer", "fid-evaluator", "classifier", "console")
_STORE_PORTS = 9
#: A job process ends when no job came for so long.
_IDLE_SECONDS = 20
#: CPU priority of job processes. Evaluations yield to the training that they run beside: its time budget is the scarce one.
_NICE = {"fid-evaluator": 15}


class System:
    """All processes of one embedded system. As a context manager it is ready on entry and gone on exit.

    Attributes:
        environment: ``COSMOP_...`` of a client: where everything is, and the credentials.
    """

    def __init__(
        self,
        home: Path,
        *,
        services: Sequence[str] = SERVICES,
        ports: Mapping[str, int] | None = None,
        environment: Mapping[str, str] | None = None,
        on_event: Callable[[str], None] = log.info,
    ) -> None:
        """Describes a system; nothing is started yet.

        Args:
            home: the folder for data, logs, secrets.
            services: which to run.
            ports: chosen ones by name: ``nats``, ``s3``, ``<service>.grpc``, ``<service>.http``. Others are free ones, kept between runs.
            environment: further variables of all processes.
            on_event: told in a line what happens.
        """
        self.home = Home(home)
        self.services = tuple(services)
        self.environment: dict[str, str] = {}
        self.started = datetime.datetime.now(datetime.UTC)
        self._chosen = dict(ports or {})
        self._extra = dict(environment or {})
        self._tell = on_event
        self._servers: list[Supervised] = []
        self._running: list[Supervised] = []
        self._runners: list[JobRunner] = []
        self._ports: dict[str, int] = {}
        self._state = "starting"
        self._mark = ""
        self._bus: Bus | None = None
        self._guard: subprocess.Popen[bytes] | None = None
        self._exits = contextlib.ExitStack()
        self._failed = asyncio.Event()

    async def __aenter__(self) -> Self:
        """Starts everything; returns when all is ready.

        Raises:
            CosmopError: the folder is in use, the disk is full, a chosen port is taken, a process will not run.
        """
        began = time.monotonic()
        try:
            self.home.prepare()
            self._exits.enter_context(self.home.lock())
            await self._prepare()
            await self._start_servers()
            self._tell("NATS and the object store are ready")
            await self._provision()
            await self._start_services()
        except BaseException:
            await self.stop()
            raise
        self._state = "ready"
        self._write_state()
        self._tell(f"all {len(self.services)} services are ready after {time.monotonic() - began:.1f} s; console: {self.url('console')}")
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Drains and ends everything."""
        await self.stop()

    def url(self, service: str) -> str:
        """Where a service's HTTP is."""
        return f"http://127.0.0.1:{self._ports[f'{service}.http']}" if service in self.services else ""

    async def show_site(self, folder: Path, keywords: Sequence[str] = ()) -> str:
        """Serves a folder of photos the way an image search does, beside the services; returns its address.

        The photos are dealt out among the ``keywords``; without any, every search finds all of them.

        Its ports are kept between runs, so that a scrape that goes on finds what it has seen under the same addresses.
        """
        port = self._ports["site"]
        command = [sys.executable, "-m", "cosmop_local.site", "--folder", str(folder), "--port", str(port), "--image-port", str(self._ports["site.images"])]
        command += [part for keyword in keywords for part in ("--keyword", keyword)]
        url = f"http://127.0.0.1:{port}"
        site = self._supervise(Spec("site", command, os.environ | self._extra, self._log("site"), answers(f"{url}/robots.txt"), 3))
        self._running.append(site)
        await self._start([site])
        return url

    @property
    def ending(self) -> bool:
        """Whether it drains, or has ended."""
        return self._state in {"stopping", "stopped"}

    async def until_failure(self) -> None:
        """Waits for ever, or until something cannot be kept running: raises its ``CrashLoopError``."""
        await self._failed.wait()
        raise next(p.failure for p in self._parts() if p.failure)

    def status(self) -> dict[str, Any]:
        """What ``system.json`` holds: addresses, process ids, restarts. No secrets."""
        processes = {p.spec.name: {"pid": p.pid, "state": p.state, "restarts": p.restarts, "log": str(p.spec.log)} for p in (*self._servers, *self._running)}
        jobs = {r.spec.name: {"pid": r.pid, "state": "running" if r.pid else "idle", "started": r.started, "log": str(r.spec.log)} for r in self._runners}
        return {
            "pid": os.getpid(),
            "started": self.started.isoformat(timespec="seconds"),
            "state": self._state,
            "console": self.url("console"),
            "nats": self.environment.get("COSMOP_NATS_URL"),
            "object_store": self.environment.get("COSMOP_S3_ENDPOINT"),
            "grpc": {s: f"127.0.0.1:{self._ports[f'{s}.grpc']}" for s in self.services if self._ports},
            "http": {s: self.url(s) for s in self.services if self._ports},
            "processes": processes | jobs,
        }

    async def stop(self) -> None:
        """Drains jobs and the console, then the services, then the servers; each has its bounded time."""
        if self._state == "stopped":
            return
        self._state = "stopping"
        self._write_state()
        console = [p for p in self._running if p.spec.name == "console"]
        await _all([*(r.stop() for r in self._runners), *(p.stop() for p in console)])
        await _all(p.stop() for p in self._running if p not in console)
        if self._bus:
            await self._bus.close()
        for server in reversed(self._servers):
            await server.stop()
        self._state = "stopped"
        self._write_state()
        if self._guard and self._guard.stdin:
            self._guard.stdin.close()
            await asyncio.to_thread(self._guard.wait)
        self._exits.close()

    async def _prepare(self) -> None:
        """Ends what a killed supervisor left, takes ports and secrets, starts the guard."""
        secrets = self.home.secrets()
        self._mark = f"{secrets['instance']}/{uuid.uuid4().hex}"
        if left := await asyncio.to_thread(sweep, secrets["instance"], but=self._mark):
            self._tell(f"{left} processes of a supervisor that was killed are ended")
        self._guard = subprocess.Popen(  # noqa: ASYNC220, S603 - forks and returns
            [sys.executable, "-m", "cosmop_local.guard", self._mark], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, start_new_session=True
        )
        stores = [f"store-{i}" for i in range(_STORE_PORTS)]
        names = ["nats", "nats.http", "s3", *stores, "site", "site.images", *(f"{s}.{kind}" for s in self.services for kind in ("grpc", "http"))]
        self._ports = self.home.ports(names, self._chosen)
        nats = servers.nats_spec(self.home.nats, user="cosmop", password=secrets["nats_password"], port=self._ports["nats"], http_port=self._ports["nats.http"])
        store = servers.store_spec(
            self.home.object_store,
            access_key=secrets["s3_access_key"],
            secret_key=secrets["s3_secret_key"],
            port=self._ports["s3"],
            inner_ports=[self._ports[name] for name in stores],
        )
        self.environment = nats.settings | store.settings | addresses({s: f"127.0.0.1:{self._ports[f'{s}.grpc']}" for s in self.services})
        for spec in (nats, store):
            self._servers.append(self._supervise(Spec(spec.name, spec.command, os.environ | spec.environment, self._log(spec.name), threaded(spec.ready), 10)))

    async def _start_servers(self) -> None:
        await self._start(self._servers)

    async def _provision(self) -> None:
        settings = connection(self.environment | self._extra)
        self._bus = await Bus.connect(settings, "supervisor")
        await provision(self._bus.js, settings)
        store = Store(settings)
        await store.ensure_bucket()
        await asyncio.to_thread(store.close)

    async def _start_services(self) -> None:
        assert self._bus is not None
        for service in self.services:
            command = [sys.executable, "-m", f"cosmop_{service.replace('-', '_')}"]
            ports = (self._ports[f"{service}.grpc"], self._ports[f"{service}.http"])
            environment = process_environment(self.home, *ports) | self.environment | self._extra
            ready = answers(f"{self.url(service)}/readyz")
            self._running.append(self._supervise(Spec(service, command, environment, self._log(service), ready)))
            if service in JOB_SERVICES:
                name = f"{service}-job"
                job = Spec(name, [*command, "job", "--idle-seconds", str(_IDLE_SECONDS)], environment, self._log(name), nice=_NICE.get(service, 5))
                self._runners.append(JobRunner(service, job, self._mark, self._changed))
        await self._start(self._running)
        for runner in self._runners:
            runner.start(self._bus)

    async def _start(self, processes: Sequence[Supervised]) -> None:
        for process in processes:
            process.start()
        await _all(p.became_ready() for p in processes)

    def _supervise(self, spec: Spec) -> Supervised:
        return Supervised(spec, self._mark, self._changed)

    def _log(self, name: str) -> Path:
        return self.home.logs / f"{name}.log"

    def _parts(self) -> list[Supervised | JobRunner]:
        return [*self._servers, *self._running, *self._runners]

    def _changed(self) -> None:
        if any(p.failure for p in self._parts()):
            self._failed.set()
        self._write_state()

    def _write_state(self) -> None:
        if self.environment:
            self.home.write_state(self.status())


async def _all(work: Iterable[Coroutine[Any, Any, None]]) -> None:
    """Runs side by side; the first failure is raised and ends the waiting for the others."""
    tasks = [asyncio.create_task(w) for w in work]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


if __name__ == "__main__":
    # The command line stands apart; it imports this module under its own name.
    from cosmop_local.command import main

    main()
