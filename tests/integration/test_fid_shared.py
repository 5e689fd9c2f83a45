"""One evaluation split over workers: the same number by one, two and three of them, and when one is killed; nobody waits for ever."""

from __future__ import annotations

import asyncio
import io
import os
import signal
import sys
import threading
import time

import numpy as np
import pytest
from cosmop_common import names
from cosmop_common.bus import Bus
from cosmop_common.jobs import run_jobs, submit
from cosmop_common.pb.cosmop.v1 import runs_pb2
from cosmop_common.records import EvaluationRecord
from cosmop_common.runs import Runs
from cosmop_common.settings import ConnectionSettings
from cosmop_common.store import Store
from cosmop_common.topology import provision
from cosmop_fid_evaluator.frechet import frechet_value
from cosmop_fid_evaluator.networks import Networks
from cosmop_fid_evaluator.protocol import Protocol
from cosmop_fid_evaluator.worker import Evaluator
from PIL import Image
from work_off import work_off

CHUNK, REFERENCE, CANDIDATE = 16, 90, 40
PARTS = -(-REFERENCE // CHUNK)


class Slow:
    """A small feature network that takes its time and counts; ``gate`` holds it until it is opened, ``together`` until the others have begun."""

    weights_sha256 = "0" * 64

    def __init__(self, seconds: float = 0.2, together: threading.Barrier | None = None) -> None:
        self.together = together
        self.images, self.seconds, self.gate, self.begun = 0, seconds, threading.Event(), threading.Event()
        self.gate.set()

    def array(self, image: Image.Image) -> np.ndarray:
        return np.asarray(image.resize((4, 4)), np.float32).transpose(2, 0, 1)

    def features(self, arrays: np.ndarray) -> np.ndarray:
        if self.together and not self.begun.is_set():
            self.together.wait(240)
        self.begun.set()
        assert self.gate.wait(240)
        time.sleep(self.seconds)
        self.images += len(arrays)
        return arrays.reshape(len(arrays), -1)


class One(Networks):
    def __init__(self, network: Slow) -> None:
        super().__init__()
        self.network = network

    def get(self, protocol: Protocol) -> Slow:
        return self.network


def handlers(store: Store, network: Slow, silence: float = 1.0) -> dict:
    work = Evaluator(store, CHUNK, One(network), shared_from=64, silence=silence)
    return {"evaluate": work, "extract_features": work.extract}


@pytest.fixture
def environment(environment: dict[str, str]) -> dict[str, str]:
    # What a killed worker had taken is given to another one so soon.
    return environment | {"COSMOP_ACK_WAIT": "2"}


async def store_sets(store: Store) -> float:
    """Two sets; returns their distance as it is without any jobs."""
    features = []
    for prefix, count, shift in (("real", REFERENCE, 0), ("made", CANDIDATE, 40)):
        pixels = [(np.random.default_rng(1000 * shift + i).integers(0, 200, (4, 4, 3)) + shift).astype(np.uint8) for i in range(count)]
        for i, image in enumerate(pixels):
            sink = io.BytesIO()
            Image.fromarray(image).save(sink, "PNG")
            await store.put(f"{prefix}/{i:03d}.png", sink.getvalue())
        features.append(np.stack([p.transpose(2, 0, 1).reshape(-1) for p in pixels]).astype(np.float32))
    return frechet_value(*features)


async def start(bus: Bus, run: str) -> None:
    job = runs_pb2.Job(run=run, evaluate=runs_pb2.EvaluateJob(reference="prefix:real/", candidate="prefix:made/"))
    await submit(bus, Runs(bus), "fid-evaluator", job)


async def work(bus: Bus, settings: ConnectionSettings, store: Store, *networks: Slow, silence: float = 1.0) -> None:
    """As many workers as networks, until no job is left."""
    await asyncio.gather(*(work_off(bus, "fid-evaluator", handlers(store, network, silence), settings) for network in networks))


async def value(store: Store, run: str) -> float:
    return (await EvaluationRecord.load(store, names.run_key(run, "evaluation.json"))).measures[0].value


async def test_any_number_of_workers_gives_the_same_number(bus: Bus, store: Store, settings: ConnectionSettings) -> None:
    settings = settings.model_copy(update={"ack_wait": 60.0})
    await provision(bus.js, settings)
    expected, values = await store_sets(store), []
    for count in (1, 2, 3):
        async for key in store.list("features/"):
            await store.delete(key)
        # Each has a part before any of them has finished one, and however slow this machine is, silence is no death.
        together = threading.Barrier(count)
        networks = [Slow(0.0, together) for _ in range(count)]
        await start(bus, f"e-{count}")
        await work(bus, settings, store, *networks, silence=300.0)
        values.append(await value(store, f"e-{count}"))
        # Nothing twice; whoever was free has helped.
        assert sum(n.images for n in networks) == REFERENCE + CANDIDATE
        assert all(n.images for n in networks)
        run = await Runs(bus).get(f"e-{count}")
        assert run.stages[0].done == run.stages[0].total == REFERENCE + CANDIDATE
        others = sum(n.images for n in networks) - max(n.images for n in networks)
        assert (run.stages[0].counts["others"] > 0) == (others > 0)
    assert values[0] == values[1] == values[2]
    assert values[0] == pytest.approx(expected, rel=1e-12)
    parts = await Runs(bus).list(kind="fid-evaluator.extract_features")
    assert len(parts) == PARTS
    assert all(p.state == runs_pb2.RUN_STATE_SUCCEEDED and p.parent.startswith("e-") for p in parts)


async def be_stuck() -> None:
    """The life of a worker that takes a part and never finishes it (in a process of its own)."""
    settings = ConnectionSettings()
    bus, store, network = await Bus.connect(settings, "stuck"), Store(settings), Slow()
    network.gate.clear()
    threading.Thread(target=lambda: (network.begun.wait(), print("begun", flush=True)), daemon=True).start()
    await run_jobs(bus, "fid-evaluator", handlers(store, network), settings=settings, stopping=asyncio.Event())


async def test_what_a_killed_worker_had_taken_is_done_by_another(bus: Bus, store: Store, settings: ConnectionSettings, environment: dict[str, str]) -> None:
    expected = await store_sets(store)
    network = Slow(0.0)
    network.gate.clear()
    await start(bus, "e-9")
    working = asyncio.create_task(work(bus, settings, store, network))
    # Only once the evaluation is at its first part: the helper must find parts, and not the evaluation.
    await asyncio.to_thread(network.begun.wait, 240)
    code, paths = "import asyncio, test_fid_shared; asyncio.run(test_fid_shared.be_stuck())", {"PYTHONPATH": os.pathsep.join(sys.path)}
    child = await asyncio.create_subprocess_exec(sys.executable, "-c", code, env=os.environ | environment | paths, stdout=asyncio.subprocess.PIPE)
    try:
        assert child.stdout is not None
        assert await asyncio.wait_for(child.stdout.readline(), 240) == b"begun\n"
    finally:
        os.kill(child.pid, signal.SIGKILL)
        await child.wait()
        network.gate.set()
    await working
    assert await value(store, "e-9") == pytest.approx(expected, rel=1e-12)
    assert network.images == REFERENCE + CANDIDATE
    parts = await Runs(bus).list(kind="fid-evaluator.extract_features")
    assert [p.state for p in parts] == [runs_pb2.RUN_STATE_SUCCEEDED] * PARTS
    assert (await bus.js.stream_info("DEAD")).state.messages == 0


async def test_a_cancelled_evaluation_takes_its_parts_along(bus: Bus, store: Store, settings: ConnectionSettings) -> None:
    await store_sets(store)
    network, runs = Slow(0.5), Runs(bus)
    network.gate.clear()
    await start(bus, "e-10")
    working = asyncio.create_task(work(bus, settings, store, network))
    await asyncio.to_thread(network.begun.wait, 240)
    await runs.cancel("e-10")
    await asyncio.sleep(0.5)
    network.gate.set()
    await working
    assert (await runs.get("e-10")).state == runs_pb2.RUN_STATE_CANCELLED
    states = {p.state for p in await runs.list(kind="fid-evaluator.extract_features")}
    assert runs_pb2.RUN_STATE_QUEUED not in states
    assert network.images < REFERENCE
    # Asked for again, it goes on with what is left.
    before = network.images
    await start(bus, "e-10")
    await work(bus, settings, store, network)
    assert (await runs.get("e-10")).state == runs_pb2.RUN_STATE_SUCCEEDED
    assert before < network.images <= REFERENCE + CANDIDATE + CHUNK
