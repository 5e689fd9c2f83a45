"""Evaluations on a real NATS and a real object store: measured once, resumed, bad sets told, the serving process without torch."""

from __future__ import annotations

import asyncio
import datetime
import hashlib
import io
import json
import subprocess
import sys

import numpy as np
import pytest
from cosmop_common import names
from cosmop_common.bus import Bus
from cosmop_common.datasets import ManifestRow, write_manifest
from cosmop_common.errors import InvalidInputError
from cosmop_common.imagesets import open_set, pack, read_set
from cosmop_common.jobs import run_jobs, submit
from cosmop_common.pb.cosmop.v1 import runs_pb2
from cosmop_common.records import DatasetRecord, EvaluationRecord, SnapshotRecord
from cosmop_common.runs import Runs
from cosmop_common.settings import ConnectionSettings
from cosmop_common.store import Store
from cosmop_fid_evaluator.networks import Networks
from cosmop_fid_evaluator.protocol import Protocol
from cosmop_fid_evaluator.worker import Evaluator
from PIL import Image
from work_off import ended, job_process, work_off


class CountingNetwork:
    """A real (if small) feature network: mean and spread of each colour in each quarter. Counts what it computes."""

    weights_sha256 = "0" * 64

    def __init__(self) -> None:
        self.images = 0

    def array(self, image: Image.Image) -> np.ndarray:
        return np.asarray(image.resize((8, 8)), np.float32).transpose(2, 0, 1)

    def features(self, arrays: np.ndarray) -> np.ndarray:
        self.images += len(arrays)
        quarters = arrays.reshape(len(arrays), 3, 2, 4, 2, 4)
        return np.concatenate([quarters.mean((3, 5)).reshape(len(arrays), -1), quarters.std((3, 5)).reshape(len(arrays), -1)], axis=1)


class OneNetwork(Networks):
    def __init__(self, network: CountingNetwork) -> None:
        super().__init__()
        self.network = network

    def get(self, protocol: Protocol) -> CountingNetwork:
        return self.network


def picture(seed: int, side: int = 40, shift: int = 0) -> bytes:
    rng = np.random.default_rng(seed)
    sink = io.BytesIO()
    Image.fromarray((rng.integers(0, 200, (4, 4, 3)) + shift).astype(np.uint8)).resize((side, side)).save(sink, "PNG")
    return sink.getvalue()


async def store_dataset(store: Store, images: list[bytes], dataset: str = "c/v1") -> None:
    collection, version = dataset.split("/")
    rows = [ManifestRow(await store.put_image(data, "image/png"), "sport", "train", "g", 40, 40, 1) for data in images]
    manifest = write_manifest(rows)
    await store.put(names.dataset_key(collection, version, "manifest.parquet"), manifest)
    record = DatasetRecord(
        collection=collection, version=version, created=datetime.datetime.now(datetime.UTC), classes=["sport"], positive="sport",
        splits={"train": {"sport": len(rows)}}, group_distance=10, manifest_sha256=hashlib.sha256(manifest).hexdigest(),
    )  # fmt: skip
    await record.save(store, names.dataset_key(collection, version, "dataset.json"))


async def store_snapshot(store: Store, run: str, kimg: float, images: list[bytes], resolution: int = 16) -> None:
    key = names.snapshot_key(run, kimg, "samples.zip")
    await store.put(key, pack((f"{i:06d}.png", data) for i, data in enumerate(images)))
    record = SnapshotRecord(
        run=run, kimg=kimg, weights="w", weights_sha256="0", grid="g", samples=key, sample_count=len(images), resolution=resolution, seconds=1
    )
    await record.save(store, names.snapshot_key(run, kimg, "snapshot.json"))


def snapshot_job(run: str, kimg: float, **more: object) -> runs_pb2.Job:
    evaluate = runs_pb2.EvaluateJob(
        reference="dataset:c/v1?split=train&label=sport", candidate=f"samples:{run}/{round(kimg * 1000):09d}", protocol="fid", gan_run=run, kimg=kimg, **more
    )
    return runs_pb2.Job(run=f"{run}-eval-{round(kimg * 1000):09d}", collection="c", evaluate=evaluate)


async def work(bus: Bus, settings: ConnectionSettings, evaluator: Evaluator) -> None:
    await work_off(bus, "fid-evaluator", {"evaluate": evaluator, "extract_features": evaluator.extract}, settings)


async def test_snapshots_are_measured_against_a_reference_that_is_measured_once(bus: Bus, store: Store, settings: ConnectionSettings) -> None:
    network, runs = CountingNetwork(), Runs(bus)
    evaluator = Evaluator(store, 16, OneNetwork(network))
    await store_dataset(store, [picture(i) for i in range(40)])
    for kimg, shift in ((1.0, 50), (2.0, 10)):
        await store_snapshot(store, "gan-1", kimg, [picture(1000 + i, 16, shift) for i in range(24)])
        await submit(bus, runs, "fid-evaluator", snapshot_job("gan-1", kimg, measures=["kid", "prdc", "copies"]))
    await work(bus, settings, evaluator)
    assert network.images == 40 + 2 * 24
    records = [await EvaluationRecord.load(store, names.evaluation_key("gan-1", kimg)) for kimg in (1.0, 2.0)]
    assert [m.name for m in records[0].measures] == ["fid", "kid", "precision", "recall", "density", "coverage", "copies"]
    assert records[0].measures[0].value > records[1].measures[0].value > 0
    assert records[0].measures[0].interval is not None
    assert records[0].protocol == records[1].protocol
    assert "prepare=crop-16" in records[0].protocol
    assert "n=40/24" in records[0].protocol
    assert (records[0].reference_images, records[0].candidate_images) == (40, 24)
    assert await EvaluationRecord.load(store, names.run_key("gan-1-eval-000001000", "evaluation.json")) == records[0]
    pairs = json.loads(await store.get(names.run_key("gan-1-eval-000001000", "copies.json")))
    assert len(pairs) == 24
    assert Image.open(io.BytesIO(await store.get(names.run_key("gan-1-eval-000001000", "copies.png")))).width > 500
    run = await runs.get("gan-1-eval-000002000")
    assert run.state == runs_pb2.RUN_STATE_SUCCEEDED
    assert (run.stages[0].name, run.stages[0].unit, run.stages[0].done, run.stages[0].total) == ("evaluate", "images", 64, 64)
    assert run.stages[0].counts["cached"] == 40
    assert run.result["measure"] == "fid"


async def test_a_finished_evaluation_is_not_repeated(bus: Bus, store: Store, settings: ConnectionSettings) -> None:
    network, runs = CountingNetwork(), Runs(bus)
    evaluator = Evaluator(store, 16, OneNetwork(network))
    await store_dataset(store, [picture(i) for i in range(6)])
    await store_snapshot(store, "gan-2", 1.0, [picture(100 + i, 16) for i in range(5)])
    await submit(bus, runs, "fid-evaluator", snapshot_job("gan-2", 1.0))
    await work(bus, settings, evaluator)
    first = await EvaluationRecord.load(store, names.evaluation_key("gan-2", 1.0))
    await store.delete(names.evaluation_key("gan-2", 1.0))
    # As if the process had died before it could say that it was done.
    await runs.change("gan-2-eval-000001000", lambda r: setattr(r, "state", runs_pb2.RUN_STATE_FAILED))
    await submit(bus, runs, "fid-evaluator", snapshot_job("gan-2", 1.0))
    await work(bus, settings, evaluator)
    assert network.images == 11
    assert await EvaluationRecord.load(store, names.evaluation_key("gan-2", 1.0)) == first


async def test_an_interrupted_evaluation_goes_on_with_the_chunk_it_was_in(bus: Bus, store: Store, settings: ConnectionSettings) -> None:
    network, runs = CountingNetwork(), Runs(bus)
    await store_dataset(store, [picture(i) for i in range(40)])
    await store_snapshot(store, "gan-3", 1.0, [picture(100 + i, 16) for i in range(20)])

    stopping = asyncio.Event()

    class Interrupting(CountingNetwork):
        def features(self, arrays: np.ndarray) -> np.ndarray:
            if self.images >= 32:
                asyncio.run_coroutine_threadsafe(_set(stopping), loop).result()
            return super().features(arrays)

    loop = asyncio.get_running_loop()
    interrupting = Interrupting()
    await submit(bus, runs, "fid-evaluator", snapshot_job("gan-3", 1.0))
    handlers = {"evaluate": Evaluator(store, 16, OneNetwork(interrupting))}
    await asyncio.wait_for(run_jobs(bus, "fid-evaluator", handlers, settings=settings, stopping=stopping), 120)
    assert (await runs.get("gan-3-eval-000001000")).state == runs_pb2.RUN_STATE_QUEUED
    assert 32 < interrupting.images < 60
    await work(bus, settings, Evaluator(store, 16, OneNetwork(network)))
    assert (await runs.get("gan-3-eval-000001000")).state == runs_pb2.RUN_STATE_SUCCEEDED
    assert network.images <= 60 - 32


async def _set(event: asyncio.Event) -> None:
    event.set()
    await asyncio.sleep(0.1)


async def test_images_that_do_not_decode_are_left_out_by_name(bus: Bus, store: Store, settings: ConnectionSettings) -> None:
    runs = Runs(bus)
    for name, data in {"a": picture(1), "b": picture(2), "broken": picture(3)[:60], "page.jpg": b"<html>"}.items():
        await store.put(f"mine/{name}", data)
    for i in range(4):
        await store.put(f"other/{i}", picture(10 + i))
    job = runs_pb2.Job(run="e-4", evaluate=runs_pb2.EvaluateJob(reference="prefix:mine/", candidate="prefix:other/"))
    await submit(bus, runs, "fid-evaluator", job)
    await work(bus, settings, Evaluator(store, 16, OneNetwork(CountingNetwork())))
    record = await EvaluationRecord.load(store, names.run_key("e-4", "evaluation.json"))
    assert record.reference_images == 2
    assert "2 of 4 images of the reference set are left out: mine/broken" in record.warnings[0]
    assert "prepare=none" in record.protocol


@pytest.mark.parametrize(
    ("run", "evaluate", "message"),
    [
        ("e-5", {"reference": "prefix:nothing/", "candidate": "prefix:one/"}, "the reference set prefix:nothing/ has 0 usable of 0 images"),
        ("e-6", {"reference": "prefix:one/", "candidate": "prefix:one/"}, "1 usable of 1 images"),
        ("e-7", {"reference": "folder:x", "candidate": "prefix:one/"}, "names no image set"),
        ("e-8", {"reference": "dataset:c/none", "candidate": "prefix:one/"}, "does not exist"),
        ("e-9", {"reference": "prefix:one/", "candidate": "prefix:one/", "protocol": "fvd"}, "no protocol 'fvd'"),
        ("e-10", {"reference": "prefix:one/", "candidate": "prefix:one/", "measures": ["is"]}, "no measure is"),
        ("e-11", {"reference": "prefix:one/"}, "a reference and a candidate set"),
    ],
)
async def test_bad_input_fails_at_once_and_says_why(bus: Bus, store: Store, settings: ConnectionSettings, run: str, evaluate: dict, message: str) -> None:
    runs = Runs(bus)
    await store.put("one/a", picture(1))
    await submit(bus, runs, "fid-evaluator", runs_pb2.Job(run=run, evaluate=runs_pb2.EvaluateJob(**evaluate)))
    await work(bus, settings, Evaluator(store, 16, OneNetwork(CountingNetwork())))
    ended = await runs.get(run)
    assert ended.state == runs_pb2.RUN_STATE_FAILED
    assert message in ended.error


async def test_a_folder_of_keys_is_taken_with_and_without_its_slash(bus: Bus, store: Store) -> None:
    for key in ("mine/1", "mine/sub/2", "mine-too/3", "loose-4", "loose-5"):
        await store.put(key, picture(1))
    for spec in ("prefix:mine", "prefix:mine/", "prefix:/mine/"):
        assert (await open_set(store, spec)).names == ["mine/1", "mine/sub/2"]
    assert (await open_set(store, "prefix:loose")).names == ["loose-4", "loose-5"]
    for spec in ("prefix:", "prefix:/"):
        with pytest.raises(InvalidInputError, match="names no image set"):
            await open_set(store, spec)


async def test_a_set_is_read_by_name_in_one_order(bus: Bus, store: Store) -> None:
    for i in range(20):
        await store.put(f"many/{i:02d}", picture(i))
    found = await open_set(store, "prefix:many/", limit=7)
    pairs = [pair async for pair in read_set(store, "prefix:many/", limit=7)]
    assert found.names == [name for name, _ in pairs] == sorted(found.names)
    assert await found.read(found.names[3:5]) == [data for _, data in pairs[3:5]]


@pytest.mark.parametrize("protocol", ["fid", "fd-efficientnet_lite0"])
async def test_the_job_process_scores_a_snapshot_by_itself(bus: Bus, store: Store, environment: dict[str, str], protocol: str) -> None:
    await store_dataset(store, [picture(i) for i in range(6)])
    await store_snapshot(store, "gan-9", 1.0, [picture(100 + i, 16) for i in range(5)])
    job = snapshot_job("gan-9", 1.0)
    job.evaluate.protocol = protocol
    await submit(bus, Runs(bus), "fid-evaluator", job)
    async with job_process("fid-evaluator", environment) as worker:
        run = await ended(bus, job.run, while_alive=[worker])
    assert run.state == runs_pb2.RUN_STATE_SUCCEEDED, run.error
    record = await EvaluationRecord.load(store, names.evaluation_key("gan-9", 1.0))
    assert record.measures[0].name == protocol
    assert record.measures[0].value > 0
    assert record.protocol.startswith(f"{protocol};network=")


def test_serving_needs_no_network_libraries() -> None:
    code = "import sys, cosmop_fid_evaluator.__main__; print([m for m in ('torch', 'onnxruntime', 'scipy', 'cosmop_vision') if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def gradient(seed: int, turn: int = 0) -> bytes:
    """Bright at the top: it has an upright."""
    ramp = np.linspace(230, 20, 24)[:, None, None] + np.random.default_rng(seed).normal(0, 12, (24, 24, 3))
    sink = io.BytesIO()
    Image.fromarray(np.rot90(np.clip(ramp, 0, 255).astype(np.uint8), turn)).save(sink, "PNG")
    return sink.getvalue()


async def test_turned_samples_are_told(bus: Bus, store: Store, settings: ConnectionSettings) -> None:
    network = CountingNetwork()
    for i in range(40):
        await store.put(f"upright/{i:02d}", gradient(i))
        await store.put(f"made/{i:02d}", gradient(100 + i, turn=1 if i % 4 == 0 else 0))
    evaluate = runs_pb2.EvaluateJob(reference="prefix:upright/", candidate="prefix:made/", measures=["leaks"])
    await submit(bus, Runs(bus), "fid-evaluator", runs_pb2.Job(run="e-12", evaluate=evaluate))
    # As large sets are: its parts are jobs, turned ones too.
    await work(bus, settings, Evaluator(store, 16, OneNetwork(network), shared_from=40))
    record = await EvaluationRecord.load(store, names.run_key("e-12", "evaluation.json"))
    found = {m.name: m.value for m in record.measures}
    assert found["turned"] == 0.25
    assert found["turned-reference"] == 0
    assert found["tinted-reference"] == pytest.approx(0.05, abs=0.03)
    run = await Runs(bus).get("e-12")
    assert run.stages[0].done == run.stages[0].total == 40 * 2 + 40 * 4 + 40
    assert network.images == 40 * 2 + 40 * 3
    turns = [r.job.extract_features.turn for r in await Runs(bus).list(kind="fid-evaluator.extract_features")]
    assert sorted(turns) == [0] * 6 + [1] * 3 + [2] * 3 + [3] * 3
