"""Each worker is killed (SIGKILL) once in the middle of a run; the final facts are those of an undisturbed run.

Equal but for times, ids and rounding. Only kept images are compared in what the human filter said: whether an image was
screened before a better copy of it arrived is a matter of timing, and of no consequence.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from pathlib import Path

import pytest
from cosmop_common.bus import Bus
from cosmop_common.collection import Collection
from cosmop_common.facts import Facts
from cosmop_common.names import FACT_KINDS, fact_subject
from cosmop_common.pb.cosmop.v1 import facts_pb2, runs_pb2
from cosmop_console.cli.run import plan_drawings, run_on
from cosmop_console.cli.target import Target
from cosmop_local.servers import free_ports
from cosmop_local.supervisor import System
from cosmop_local.world.collection import collection

DRAWINGS = 200
#: Serving processes are killed once images flow; job processes when they have worked for a moment.
SERVING = ("scraper", "dedup", "human-detector", "gan-trainer", "fid-evaluator", "classifier", "console")
JOBS = ("human-detector-job", "scraper-job", "gan-trainer-job", "fid-evaluator-job", "classifier-job", "console-job")
_WORKED_SECONDS = 1.5
#: The next is killed when the one before has come back, however long that takes here, and after so long at the latest.
_LONGEST_PAUSE = 4.0


def small() -> Collection:
    """The drawn world's settings, the generator and the classifiers cut to seconds."""
    settings = collection()
    gan = settings.gan.model_copy(update={"kimg": 0.2, "snapshots": 3, "samples": 24, "synthetic": 24, "max_seconds": 30.0})
    return settings.model_copy(
        update={
            "gan": gan,
            "evaluation": settings.evaluation.model_copy(update={"max_images": 48}),
            "classifier": settings.classifier.model_copy(update={"max_seconds": 10.0}),
        }
    )


async def kill_each(system: System, killed: list[str]) -> None:
    """Kills each process once; notes those it killed, in order."""
    seen: dict[tuple[str, int], float] = {}
    loop = asyncio.get_running_loop()
    while len(killed) < len(SERVING) + len(JOBS):
        await asyncio.sleep(0.2)
        processes = system.status()["processes"]
        for name in (*JOBS, *SERVING):
            pid = processes.get(name, {}).get("pid")
            if name in killed or not pid:
                continue
            since = seen.setdefault((name, pid), loop.time())
            if loop.time() - since < _WORKED_SECONDS or (name in SERVING and "scraper-job" not in killed):
                continue
            os.kill(pid, signal.SIGKILL)
            killed.append(name)
            await back(system, name, pid)
            break


async def back(system: System, name: str, killed: int) -> None:
    """Returns when a killed process runs again, as another one."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_LONGEST_PAUSE):
            while (now := system.status()["processes"].get(name, {})).get("pid") in {None, killed} or now.get("state") not in {"ready", "running"}:  # noqa: ASYNC110
                await asyncio.sleep(0.1)


#: A fact's bytes, and its score apart: that depends in its last digits on which images were scored together.
Said = tuple[bytes, float]


def same(a: Said | None, b: Said | None) -> bool:
    return a is not None and b is not None and a[0] == b[0] and abs(a[1] - b[1]) < 1e-3


async def facts_of(target: Target, name: str) -> dict[str, Said]:
    """Every last value of a collection by its subject, without times, runs and causes."""
    bus = await Bus.connect(target.connection, "test")
    kept: dict[str, bool] = {}
    found: dict[str, Said] = {}
    try:
        for kind in FACT_KINDS.values():
            async for stored in Facts(bus).replay(kind, name):
                fact, score = stored.fact, 0.0
                # Which of several sightings of the same bytes came first is a matter of timing too.
                for field in ("at", "run", "cause", "ulid", "sighting"):
                    if field in fact.DESCRIPTOR.fields_by_name:
                        fact.ClearField(field)
                if isinstance(fact, facts_pb2.Deduplicated):
                    kept[fact.image] = fact.kept == fact.image
                if isinstance(fact, facts_pb2.Screened):
                    if not kept[fact.image]:
                        continue
                    score = fact.score
                    fact.ClearField("score")
                found[fact_subject(fact)] = (fact.SerializeToString(deterministic=True), score)
    finally:
        await bus.close()
    return found


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("faults")


async def run_world(home: Path, ports: dict[str, int], *, kill: bool) -> tuple[dict[str, Said], runs_pb2.Run, list[str]]:
    plan = plan_drawings(home.parent / "world", DRAWINGS, small())
    assert plan.folder is not None
    async with System(home, ports=ports, environment={"COSMOP_ACK_WAIT": "6"}) as system:
        target = Target.of(system.environment)
        site = await system.show_site(plan.folder.path, plan.collection.scrape.keywords)
        killed: list[str] = []
        killer = asyncio.create_task(kill_each(system, killed)) if kill else None
        run = await run_on(target, plan, site)
        if killer:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(killer, 5)
        return await facts_of(target, plan.collection.name), run, killed


@pytest.mark.slow
@pytest.mark.timeout(3000)
async def test_the_facts_are_those_of_an_undisturbed_run(home: Path) -> None:
    # The same addresses in both runs: they are part of what a sighting says.
    ports = dict(zip(("site", "site.images"), free_ports(2), strict=True))
    calm, calm_run, _ = await run_world(home / "calm", ports, kill=False)
    assert calm_run.state == runs_pb2.RUN_STATE_SUCCEEDED, calm_run.error
    stormy, stormy_run, killed = await run_world(home / "stormy", ports, kill=True)
    assert stormy_run.state == runs_pb2.RUN_STATE_SUCCEEDED, stormy_run.error
    assert sorted(killed) == sorted((*SERVING, *JOBS)), "every worker must have been killed once"
    assert len(calm) > 5 * DRAWINGS
    different = sorted(key for key in calm.keys() | stormy.keys() if not same(calm.get(key), stormy.get(key)))
    assert different == []
