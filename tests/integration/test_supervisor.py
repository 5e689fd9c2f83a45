"""The embedded system with small stand-in services on real servers: start, readiness, restart, jobs from zero, and nothing left at its end."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import psutil
import pytest
import pytest_asyncio
from cosmop_common.bus import Bus
from cosmop_common.errors import StorageFullError
from cosmop_common.jobs import submit
from cosmop_common.pb.cosmop.v1 import runs_pb2
from cosmop_common.runs import Runs
from cosmop_local import servers
from cosmop_local.environment import client_environment, connection
from cosmop_local.guard import marked
from cosmop_local.home import ChosenPortTakenError, Home, HomeInUseError
from cosmop_local.processes import CrashLoopError
from cosmop_local.supervisor import System

#: A service of the usual shape; serving, it starts a grandchild in a session of its own, as the scraper does with Chrome.
STAND_IN = """
import asyncio, os, pathlib, subprocess, sys
from cosmop_common.runtime import Runtime, main
from cosmop_common.settings import ServiceSettings

NAME = "{name}"
FOLDER = pathlib.Path(os.environ["STAND_IN_FOLDER"])

async def serve():
    subprocess.Popen(["sleep", "600"], start_new_session=True)
    async with Runtime(NAME, ServiceSettings()) as runtime:
        await runtime.until_stopped()

async def work(handle):
    with (FOLDER / "jobs").open("a") as file:
        file.write(f"{{os.getpid()}} {{handle.id}}\\n")
    while not (FOLDER / "go").exists():
        handle.check()
        await asyncio.sleep(0.05)

async def job(idle_seconds):
    async with Runtime(NAME, ServiceSettings(), serving=False) as runtime:
        await runtime.run_jobs({{"scrape": work}}, idle_seconds=0.5)

main(serve, job)
"""


def make_stand_ins(tmp_path: Path) -> dict[str, str]:
    """An environment in which the scraper and the dedup are stand-ins."""
    for name in ("scraper", "dedup"):
        package = tmp_path / "packages" / f"cosmop_{name}"
        package.mkdir(parents=True)
        (package / "__init__.py").touch()
        (package / "__main__.py").write_text(STAND_IN.format(name=name))
    return {"PYTHONPATH": str(tmp_path / "packages"), "STAND_IN_FOLDER": str(tmp_path), "COSMOP_ACK_WAIT": "3"}


@pytest.fixture
def stand_ins(tmp_path: Path) -> dict[str, str]:
    return make_stand_ins(tmp_path)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def system(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[System]:
    """One that several tests do harm to; each leaves it whole."""
    folder = tmp_path_factory.mktemp("system")
    async with System(folder / "home", services=("scraper", "dedup"), environment=make_stand_ins(folder)) as system:
        yield system


async def until(condition: Callable[[], bool], seconds: float = 150) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come to pass"
        await asyncio.sleep(0.05)


def instance(home: Path) -> str:
    return Home(home).secrets()["instance"]


async def test_all_is_ready_on_entry_and_gone_after_exit(tmp_path: Path, stand_ins: dict[str, str]) -> None:
    home = tmp_path / "home"
    async with System(home, services=("scraper", "dedup"), environment=stand_ins) as system:
        state = Home(home).read_state()
        assert state["state"] == "ready"
        assert {p["state"] for n, p in state["processes"].items() if not n.endswith("-job")} == {"ready"}
        for address in state["grpc"].values():
            host, port = address.split(":")
            socket.create_connection((host, int(port)), timeout=60).close()
        assert len(marked(instance(home))) >= 4 + 2, "two servers, two services, their two grandchildren"
        assert client_environment(home).items() <= system.environment.items()
        assert (home / "secrets.json").stat().st_mode & 0o077 == 0
        assert system.environment["COSMOP_S3_SECRET_KEY"] not in (home / "system.json").read_text()
        first = dict(system.environment)
    assert marked(instance(home)) == []
    assert client_environment(home) == {}
    async with System(home, services=("scraper", "dedup"), environment=stand_ins) as system:
        assert system.environment == first, "ports and secrets are kept between runs"


@pytest.mark.asyncio(loop_scope="module")
async def test_a_killed_service_comes_back_and_leaves_nothing_of_its_first_life(system: System) -> None:
    service = next(p for p in system._running if p.spec.name == "scraper")
    before = service.pid
    grandchildren = psutil.Process(before).children()
    assert grandchildren
    os.kill(before, signal.SIGKILL)
    await until(lambda: service.restarts == 1 and service.state == "ready")
    assert service.pid != before
    _, alive = psutil.wait_procs(grandchildren, timeout=0)
    assert not [g for g in alive if g.status() != psutil.STATUS_ZOMBIE]
    await until(lambda: system.home.read_state()["processes"]["scraper"]["restarts"] == 1)


@pytest.mark.asyncio(loop_scope="module")
async def test_a_killed_server_comes_back_with_its_data(system: System) -> None:
    bus = await Bus.connect(connection(system.environment), "test")
    kv = await bus.js.key_value("models")
    await kv.put("a", b"1")
    nats = system._servers[0]
    os.kill(nats.pid, signal.SIGKILL)
    await until(lambda: nats.restarts == 1 and nats.state == "ready" and bus.ready)
    assert (await kv.get("a")).value == b"1"
    await bus.close()


@pytest.mark.asyncio(loop_scope="module")
async def test_a_job_process_is_started_by_its_queue_and_again_after_a_kill(system: System) -> None:
    runner = next(r for r in system._runners if r.service == "scraper")
    assert runner.pid is None
    bus = await Bus.connect(connection(system.environment), "test")
    runs = Runs(bus)
    run = await submit(bus, runs, "scraper", runs_pb2.Job(collection="c", scrape=runs_pb2.ScrapeJob()))
    folder = system.home.folder.parent
    jobs = folder / "jobs"
    await until(jobs.exists)
    first = runner.pid
    os.kill(first, signal.SIGKILL)
    await until(lambda: len(jobs.read_text().splitlines()) == 2)
    assert runner.pid != first
    (folder / "go").touch()
    await until(lambda: runner.pid is None)
    assert (await runs.get(run.id)).state == runs_pb2.RUN_STATE_SUCCEEDED
    await bus.close()


def spawn(home: Path, environment: dict[str, str]) -> subprocess.Popen[bytes]:
    code = f"""
import asyncio, pathlib
from cosmop_local.supervisor import System
async def main():
    async with System(pathlib.Path({str(home)!r}), services=("scraper", "dedup")) as system:
        await system.until_failure()
asyncio.run(main())
"""
    return subprocess.Popen([sys.executable, "-c", code], env=os.environ | environment)


async def test_nothing_outlives_a_supervisor_that_is_killed(tmp_path: Path, stand_ins: dict[str, str]) -> None:
    home = tmp_path / "home"
    supervisor = spawn(home, stand_ins)
    state = Home(home)
    await until(lambda: state.read_state().get("state") == "ready" if state.folder.exists() else False)
    with pytest.raises(HomeInUseError, match=f"process {supervisor.pid}"):
        await System(home, services=()).__aenter__()
    mark = instance(home)
    assert len(marked(mark)) >= 6
    supervisor.kill()
    supervisor.wait()
    await until(lambda: not marked(mark))
    assert state.read_state() == {}
    async with System(home, services=("dedup",), environment=stand_ins):
        pass


async def test_a_crash_loop_ends_with_the_name_of_the_log(tmp_path: Path, stand_ins: dict[str, str]) -> None:
    (tmp_path / "packages" / "cosmop_dedup" / "__main__.py").write_text("raise SystemExit('no such setting')")
    with pytest.raises(CrashLoopError, match=r"dedup ended with status 1, 5 times in a row: .*dedup\.log says why; its last line: no such setting"):
        await System(tmp_path / "home", services=("dedup",), environment=stand_ins).__aenter__()
    assert marked(instance(tmp_path / "home")) == []


async def test_a_taken_port_is_named_when_it_was_asked_for_and_replaced_when_not(tmp_path: Path) -> None:
    home = Home(tmp_path)
    kept = home.ports(["a", "b"], {})
    assert home.ports(["a", "b"], {}) == kept
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", kept["a"]))
        taken.listen()
        again = home.ports(["a", "b"], {})
        assert again["a"] != kept["a"]
        assert again["b"] == kept["b"]
        with pytest.raises(ChosenPortTakenError, match=f"port {kept['a']}, asked for a, cannot be had"):
            home.ports(["a", "b"], {"a": kept["a"]})


def test_free_ports_lie_where_no_connection_of_a_client_takes_them() -> None:
    ports, outgoing = servers.free_ports(20), Path("/proc/sys/net/ipv4/ip_local_port_range")
    assert len(set(ports)) == 20
    first = int(outgoing.read_text().split()[0]) if outgoing.exists() else 0
    assert min(ports) > 1024
    assert first < 20_000 or max(ports) < first


def test_a_full_disk_is_told_before_anything_starts(tmp_path: Path) -> None:
    with pytest.raises(StorageFullError, match="GiB free"):
        Home(tmp_path).prepare(min_free_bytes=1 << 60)


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "secrets.json").write_text("{")
    with pytest.raises(Exception, match=r"secrets\.json cannot be read .* delete it"):
        Home(tmp_path).secrets()
    (tmp_path / "secrets.json").write_text(json.dumps({"instance": "kept"}))
    assert Home(tmp_path).secrets()["instance"] == "kept"
