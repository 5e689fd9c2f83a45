"""Training and generating on a real NATS and a real object store: from drawn images to a best snapshot, taken away and resumed."""

from __future__ import annotations

import asyncio
import io
import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from cosmop_common import imagesets
from cosmop_common.bus import Bus
from cosmop_common.datasets import ManifestRow, write_manifest
from cosmop_common.jobs import run_jobs, submit
from cosmop_common.names import dataset_key, evaluation_key, run_key, sha256_hex, snapshot_key
from cosmop_common.pb.cosmop.v1 import runs_pb2
from cosmop_common.records import DatasetRecord, EvaluationRecord, GanRunRecord, MeasureRecord, SnapshotRecord, SyntheticRecord, utc_now
from cosmop_common.run_handle import RunHandle
from cosmop_common.runs import Runs
from cosmop_common.settings import ConnectionSettings
from cosmop_common.store import Store
from cosmop_gan_trainer.session import Session
from cosmop_gan_trainer.settings import Settings
from cosmop_gan_trainer.snapshots import load_generator
from cosmop_gan_trainer.trainer import Trainer
from cosmop_gan_trainer.training import TrainingRun
from cosmop_gan_trainer.worker import handlers
from PIL import Image
from work_off import work_off

OPTIONS = {
    "batch": "8",
    "channel_base": "128",
    "channel_max": "16",
    "z_dim": "16",
    "w_dim": "16",
    "finalise_seconds": "300",
    "measures": "kid, prdc",
    "max_images": "50",
}


def drawing(k: int) -> bytes:
    """A blob somewhere, as PNG or JPEG, of any size and mode."""
    rng = np.random.default_rng(k)
    width, height = rng.integers(16, 60, 2)
    y, x = np.mgrid[:height, :width]
    blob = np.exp(-((x - width * rng.random()) ** 2 + (y - height * rng.random()) ** 2) / 60)
    image = Image.fromarray((blob[..., None] * rng.integers(60, 255, 3)).astype(np.uint8)).convert(("RGB", "L", "RGBA")[k % 3])
    sink = io.BytesIO()
    image.convert("RGB").save(sink, "JPEG") if k % 2 else image.save(sink, "PNG")
    return sink.getvalue()


async def freeze(store: Store, images: list[bytes], label: str = "concept") -> str:
    """A dataset version in which all images are of the train split, and one of another class is not."""
    rows = []
    for data in [*images, drawing(9999)]:
        image = await store.put_image(data, "image/png")
        of_class = label if len(rows) < len(images) else "other"
        rows.append(ManifestRow(image=image, label=of_class, split="train", group=image, width=9, height=9, labellers=1))
    manifest = write_manifest(rows)
    await store.put(dataset_key("c", "v1", "manifest.parquet"), manifest)
    record = DatasetRecord(
        collection="c",
        version="v1",
        created=utc_now(),
        classes=[label, "other"],
        positive=label,
        splits={},
        group_distance=10,
        manifest_sha256=sha256_hex(manifest),
    )
    await record.save(store, dataset_key("c", "v1", "dataset.json"))
    return "c/v1"


def train_job(run: str, *, kimg: float = 0.16, snapshots: int = 2, **options: str) -> runs_pb2.Job:
    spec = runs_pb2.TrainGanJob(
        dataset="c/v1", label="concept", resolution=16, kimg=kimg, snapshots=snapshots, preset="tiny", seed=1, samples=20, options=OPTIONS | options
    )
    return runs_pb2.Job(run=run, collection="c", train_gan=spec)


async def work(bus: Bus, settings: ConnectionSettings, store: Store, stopping: asyncio.Event | None = None) -> None:
    await work_off(bus, "gan-trainer", handlers(Settings(gan_device="cpu", torch_threads=1), store), settings, stopping=stopping)


async def evaluator(bus: Bus, settings: ConnectionSettings, store: Store, values: dict[int, float], stopping: asyncio.Event) -> None:
    """Stands in for fid-evaluator: reads both sets, as it does, and gives each snapshot the value that the test wants."""

    async def evaluate(run: RunHandle) -> None:
        job = run.job.evaluate
        reference = [data async for _, data in imagesets.read_set(store, job.reference)]
        candidate = [data async for _, data in imagesets.read_set(store, job.candidate)]
        images = round(job.kimg * 1000)
        if images not in values:
            raise ValueError("this one cannot be judged")
        record = EvaluationRecord(
            run=run.id, reference=job.reference, candidate=job.candidate, gan_run=job.gan_run, kimg=job.kimg, protocol=job.protocol,
            measures=[MeasureRecord(name=job.protocol, value=values[images], interval=(values[images] - 1, values[images] + 1))],
            reference_images=len(reference), candidate_images=len(candidate),
        )  # fmt: skip
        await record.save(store, evaluation_key(job.gan_run, job.kimg))

    await run_jobs(bus, "fid-evaluator", {"evaluate": evaluate}, settings=settings, stopping=stopping)


async def test_drawn_images_become_snapshots_and_the_best_of_them_makes_images(bus: Bus, settings: ConnectionSettings, store: Store) -> None:
    await freeze(store, [*(drawing(k) for k in range(60)), b"<html>no image</html>"])
    runs, stopping = Runs(bus), asyncio.Event()
    judge = asyncio.create_task(evaluator(bus, settings, store, {0: 200.0, 80: 90.0, 160: 120.0}, stopping))
    await submit(bus, runs, "gan-trainer", train_job("gan-1"))
    await work(bus, settings, store)
    run = await runs.get("gan-1")
    assert run.state == runs_pb2.RUN_STATE_SUCCEEDED, run.error
    train, evaluate = run.stages
    assert (train.name, train.done, train.total, train.unit) == ("train", 160, 160, "images")
    assert (train.counts["used"], train.counts["refused"]) == (60, 1)
    assert (evaluate.name, evaluate.done) == ("evaluate", 3)
    record = await GanRunRecord.load(store, run_key("gan-1", "gan.json"))
    assert record.snapshots == [0, 0.08, 0.16]
    assert (record.best, record.images, record.ended_because) == (0.08, 60, "kimg reached")
    assert record.best_because.startswith("lowest fid: 90")
    for kimg in record.snapshots:
        snapshot = await SnapshotRecord.load(store, snapshot_key("gan-1", kimg, "snapshot.json"))
        weights = await store.get(snapshot.weights)
        assert sha256_hex(weights) == snapshot.weights_sha256
        assert load_generator(weights, torch.device("cpu")).config.resolution == 16
        grid = Image.open(io.BytesIO(await store.get(snapshot.grid)))
        assert grid.size == (80, 64)
        samples = [name async for name, _ in imagesets.read_set(store, imagesets.samples_set("gan-1", kimg))]
        assert len(samples) == snapshot.sample_count == 20
        evaluation = await runs.get(f"gan-1-eval-{round(kimg * 1000):09d}")
        assert evaluation.parent == "gan-1"
        assert evaluation.job.evaluate.reference == "dataset:c/v1?split=train&label=concept"
        assert list(evaluation.job.evaluate.measures) == ["kid", "prdc"]
        assert evaluation.job.evaluate.max_images == 50

    film = Image.open(io.BytesIO(await store.get(run_key("gan-1", "film.png"))))
    assert film.size == (90 + 10 * 64, 3 * 64)
    curves = await store.get_json(run_key("gan-1", "curves.json"))
    assert [row[0] for row in curves["rows"]] == pytest.approx([k * 0.008 for k in range(1, 21)])
    assert all(value is not None for row in curves["rows"] for name, value in zip(curves["names"], row, strict=True) if name in {"loss_g", "loss_d", "p"})
    states = (await store.get_json(run_key("gan-1", "checkpoint/latest.json")))["checkpoints"]
    assert {80, 160} <= {entry["images"] for entry in states}, "the best snapshot's state stays beside the last"

    generate = runs_pb2.Job(
        run="gen-1", collection="c", generate=runs_pb2.GenerateJob(gan_run="gan-1", kimg=-1, count=70, seed=100, truncation=0.7, label="concept")
    )
    await submit(bus, runs, "gan-trainer", generate)
    await work(bus, settings, store)
    synthetic = await SyntheticRecord.load(store, run_key("gen-1", "synthetic.json"))
    assert (synthetic.kimg, synthetic.count, synthetic.truncation) == (0.08, 70, 0.7)
    made = [(name, data) async for name, data in imagesets.read_set(store, "synthetic:gen-1")]
    assert [name for name, _ in made][:2] == ["0000000100.png", "0000000101.png"]
    assert len({data for _, data in made}) == 70
    stopping.set()
    await judge


async def test_a_run_taken_away_goes_on_and_ends_as_if_nothing_had_been(
    bus: Bus, settings: ConnectionSettings, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    await freeze(store, [drawing(k) for k in range(30)])
    runs = Runs(bus)
    quick = {"evaluate": "false", "checkpoint_seconds": "0.1"}
    await submit(bus, runs, "gan-trainer", train_job("whole", kimg=0.4, **quick))
    await work(bus, settings, store)
    await submit(bus, runs, "gan-trainer", train_job("parts", kimg=0.4, **quick))
    loop, step, stops = asyncio.get_running_loop(), Trainer.step, [64, 200]

    def taken_away(trainer: Trainer) -> None:
        step(trainer)
        if stops and trainer.images >= stops[0]:
            stops.pop(0)
            asyncio.run_coroutine_threadsafe(stop(), loop).result()

    async def stop() -> None:
        stopping.set()
        await asyncio.sleep(0.1)  # the job has heard of it before its next step

    monkeypatch.setattr(Trainer, "step", taken_away)
    for state in (runs_pb2.RUN_STATE_QUEUED, runs_pb2.RUN_STATE_QUEUED, runs_pb2.RUN_STATE_SUCCEEDED):
        stopping = asyncio.Event()
        await work(bus, settings, store, stopping)
        assert (await runs.get("parts")).state == state
    monkeypatch.setattr(Trainer, "step", step)
    whole, parts = [await GanRunRecord.load(store, run_key(r, "gan.json")) for r in ("whole", "parts")]
    assert whole.snapshots == parts.snapshots
    assert parts.best == 0.4
    assert parts.best_because.startswith("the last snapshot")
    for kimg in whole.snapshots:
        a, b = [await SnapshotRecord.load(store, snapshot_key(r, kimg, "snapshot.json")) for r in ("whole", "parts")]
        assert a.weights_sha256 == b.weights_sha256
    kept = [k async for k in store.list(run_key("parts", "checkpoint/"))]
    assert len(kept) == 3  # the pointer and the last two
    # Delivered again, a finished run does nothing.
    written = await store.get(run_key("whole", "gan.json"))
    await bus.js.publish("cosmop.jobs.gan-trainer.train_gan", train_job("whole", kimg=0.4, **quick).SerializeToString())
    await work(bus, settings, store)
    assert await store.get(run_key("whole", "gan.json")) == written


async def test_a_damaged_checkpoint_gives_way_to_the_one_before(bus: Bus, settings: ConnectionSettings, store: Store) -> None:
    from cosmop_gan_trainer.checkpoints import Checkpoints
    from cosmop_gan_trainer.errors import DamagedCheckpointError

    checkpoints = Checkpoints(store, "r", keep=2)
    assert await checkpoints.load() is None
    for k in range(3):
        await checkpoints.save(f"state {k}".encode(), k * 1000)
    pointer = await store.get_json(run_key("r", "checkpoint/latest.json"))
    assert [e["images"] for e in pointer["checkpoints"]] == [2000, 1000]
    assert await checkpoints.load() == b"state 2"
    await store.put(pointer["checkpoints"][0]["key"], b"state X")
    assert await checkpoints.load() == b"state 1"
    await store.delete(pointer["checkpoints"][1]["key"])
    with pytest.raises(DamagedCheckpointError, match="2 tried"):
        await checkpoints.load()
    for k in range(3, 7):
        await checkpoints.save(f"state {k}".encode(), k * 1000, keep={3000})
    assert [e["images"] for e in (await store.get_json(run_key("r", "checkpoint/latest.json")))["checkpoints"]] == [6000, 5000, 3000]
    assert len([key async for key in store.list(run_key("r", "checkpoint/"))]) == 4
    await store.put(run_key("r", "checkpoint/latest.json"), json.dumps([]).encode())
    with pytest.raises(DamagedCheckpointError, match=r"latest\.json"):
        await checkpoints.load()


async def test_too_few_images_fail_at_once_and_by_name(bus: Bus, settings: ConnectionSettings, store: Store) -> None:
    await freeze(store, [drawing(1), b"not an image"])
    runs = Runs(bus)
    await submit(bus, runs, "gan-trainer", train_job("few"))
    await work(bus, settings, store)
    run = await runs.get("few")
    assert run.state == runs_pb2.RUN_STATE_FAILED
    assert "1 usable images, fewer than one batch of 8" in run.error
    assert sha256_hex(b"not an image") in run.error


async def test_a_time_budget_is_kept_and_a_failed_evaluation_is_told(
    bus: Bus, settings: ConnectionSettings, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a clock on which a step takes a tenth of a second, and a snapshot three, however fast the machine is."""
    now, step, draw = 1000.0, Trainer.step, Session.draw

    def timed_step(trainer: Trainer) -> None:
        nonlocal now
        step(trainer)
        now += 0.1

    def timed_draw(session: Session, samples: int) -> object:
        nonlocal now
        drawn, begun = draw(session, samples), now
        now += 0.3
        session.schedule.reserve = now - begun
        return drawn

    for module in ("session", "training"):
        monkeypatch.setattr(f"cosmop_gan_trainer.{module}.time", SimpleNamespace(monotonic=lambda: now))
    monkeypatch.setattr(Trainer, "step", timed_step)
    monkeypatch.setattr(Session, "draw", timed_draw)
    await freeze(store, [drawing(k) for k in range(30)])
    runs = Runs(bus)
    job = train_job("timed", kimg=1000, snapshots=3, finalise_seconds="0", initial_snapshot="false")
    job.train_gan.max_seconds = 4
    await submit(bus, runs, "gan-trainer", job)
    await work(bus, settings, store)
    record = await GanRunRecord.load(store, run_key("timed", "gan.json"))
    assert record.ended_because == "time budget"
    assert len(record.snapshots) == 3
    assert record.best == record.snapshots[-1]
    assert "3 of 3 snapshots have no evaluation" in record.best_because
    assert 3.5 < record.seconds < 4.2


async def test_a_rising_metric_ends_training(bus: Bus, settings: ConnectionSettings, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    judge_now = TrainingRun._judge

    async def judge_when_measured(run: TrainingRun, session: Session) -> str:
        """Whichever is faster here: training waits for the word on its snapshots."""
        async with asyncio.timeout(120):
            while any(j.pending for j in await run.evaluations.judged(session.taken)):  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        return await judge_now(run, session)

    monkeypatch.setattr(TrainingRun, "_judge", judge_when_measured)
    await freeze(store, [drawing(k) for k in range(30)])
    runs, stopping = Runs(bus), asyncio.Event()
    rising = {k: 100.0 + k for k in range(8, 4000, 8)}
    judge = asyncio.create_task(evaluator(bus, settings, store, rising | {0: 50.0}, stopping))
    await submit(bus, runs, "gan-trainer", train_job("rising", kimg=3.2, snapshots=20, patience="2"))
    await work(bus, settings, store)
    record = await GanRunRecord.load(store, run_key("rising", "gan.json"))
    assert record.ended_because == "metric rising"
    assert record.snapshots[-1] < 3.2
    assert record.best == record.snapshots[1], "the first that was trained: the untrained one is no candidate"
    stopping.set()
    await judge
