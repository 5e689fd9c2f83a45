"""The training job on real servers: interrupted and gone on with, on a dataset version, on PASS and CrowdHuman; its curves and its card."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from cosmop_common.bus import Bus
from cosmop_common.datasets import ManifestRow, write_manifest
from cosmop_common.jobs import submit
from cosmop_common.models_kv import ActiveModels
from cosmop_common.names import dataset_key, model_key, run_key, sha256_hex
from cosmop_common.pb.cosmop.v1 import runs_pb2
from cosmop_common.records import DatasetRecord, ModelCard, utc_now
from cosmop_common.runs import Runs
from cosmop_common.settings import ConnectionSettings
from cosmop_common.store import Store
from cosmop_human_detector.jobs import train_human_detector
from cosmop_human_detector.models import Models
from cosmop_human_detector.settings import Settings
from cosmop_human_detector.tuning import Tuner
from human_detector_world import PERSON, scene, write_crowdhuman, write_pass
from work_off import work_off

COUNT = 130


async def freeze(store: Store, bytes_of: list[bytes]) -> str:
    """A dataset version whose classes say nothing of people by themselves."""
    rows = []
    for i, data in enumerate(bytes_of):
        image = await store.put_image(data, "image/png")
        rows.append(ManifestRow(image, ("shore", "boat")[i % 2] if i else "blurred", "train", image, 72, 64, 1))
    manifest = write_manifest(rows)
    record = DatasetRecord(
        collection="c",
        version="v1",
        created=utc_now(),
        classes=["boat", "shore", "blurred"],
        positive="boat",
        splits={},
        group_distance=10,
        manifest_sha256=sha256_hex(manifest),
    )
    await store.put(dataset_key("c", "v1", "manifest.parquet"), manifest)
    await record.save(store, dataset_key("c", "v1", "dataset.json"))
    return "dataset:c/v1?people=boat&none=shore"


async def work(bus: Bus, handlers: dict, settings: ConnectionSettings, stopping: asyncio.Event) -> None:
    await work_off(bus, "human-detector", handlers, settings, stopping=stopping)


async def test_an_interrupted_job_goes_on_and_its_version_screens(
    bus: Bus, store: Store, settings: ConnectionSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = await freeze(store, [scene(i, figure=bool(i % 2)) for i in range(COUNT)])
    runs, active = Runs(bus), ActiveModels(bus)
    handlers = {"train_human_detector": train_human_detector(store, active, Settings())}
    spec = runs_pb2.TrainHumanDetectorJob(data=[data], size=64, epochs=2, batch=8)

    await submit(bus, runs, "human-detector", runs_pb2.Job(run="cut", collection="c", train_human_detector=spec))
    stopping, loop, take_step = asyncio.Event(), asyncio.get_running_loop(), Tuner._take_step

    def stopped_after_two_steps(tuner: Tuner, *arguments: object) -> None:
        take_step(tuner, *arguments)
        if tuner._step == 2:
            asyncio.run_coroutine_threadsafe(stop(), loop).result()

    async def stop() -> None:
        stopping.set()
        await asyncio.sleep(0.1)  # the job has heard of it before its next step

    with monkeypatch.context() as patch:
        patch.setattr(Tuner, "_take_step", stopped_after_two_steps)
        await work(bus, handlers, settings, stopping)
    assert (await runs.get("cut")).state == runs_pb2.RUN_STATE_QUEUED
    assert await store.exists(run_key("cut", "training/checkpoint.safetensors"))
    await work(bus, handlers, settings, asyncio.Event())
    cut = await runs.get("cut")
    assert cut.state == runs_pb2.RUN_STATE_SUCCEEDED, cut.error
    assert not await store.exists(run_key("cut", "training/checkpoint.safetensors"))

    name, _, version = cut.result["model"].partition("/")
    assert await active.get(name) == version
    card = await ModelCard.load(store, model_key(name, version, "card.json"))
    assert (name, card.collection, card.details["backend"]) == ("human-c", "c", "tuned")
    assert card.details["miss_rate_bound"] >= card.details["miss_rate"]
    assert len(card.details["fitted_on"]) < COUNT
    assert card.metrics["shortcut"]["pasted_auroc"].n is not None
    stages = {stage.name: stage for stage in cut.stages}
    assert stages["index"].counts["left_out_other_class"] == 1
    assert stages["fine-tune"].done == stages["fine-tune"].total
    curves = json.loads(await store.get(run_key("cut", "training/curves.json")))
    assert [len(values) for values in curves.values()] == [3, 3, 3]
    assert (await store.get(cut.result["curves"])).startswith(b"<svg")

    models = Models(store, active, batch=4, seconds=0.01)
    try:
        model = await models.load(cut.result["model"])
        scores = [await model.score(scene(1000 + i, figure=bool(i % 2))) for i in range(12)]
    finally:
        await models.close()
    assert sum(scores[1::2]) > sum(scores[0::2]) + 1


async def test_pass_and_crowdhuman_train_a_head(bus: Bus, store: Store, settings: ConnectionSettings, tmp_path: Path) -> None:
    write_pass(tmp_path / "pass", parts=3, each=8)
    person = PERSON | {"vbox": [8, 4, 40, 50]}
    images = {f"{i}": scene(i, figure=True) for i in range(24)}
    write_crowdhuman(
        tmp_path / "crowd", {"CrowdHuman_train01.zip": images}, [{"ID": i, "gtboxes": [person]} for i in images] + [{"ID": "gone", "gtboxes": [person]}]
    )
    data = [f"pass:{tmp_path / 'pass'}", f"crowdhuman:{tmp_path / 'crowd'}"]
    runs = Runs(bus)
    handlers = {"train_human_detector": train_human_detector(store, ActiveModels(bus), Settings())}
    spec = runs_pb2.TrainHumanDetectorJob(data=data, size=64)
    await submit(bus, runs, "human-detector", runs_pb2.Job(run="both", train_human_detector=spec))
    await work(bus, handlers, settings, asyncio.Event())
    run = await runs.get("both")
    assert run.state == runs_pb2.RUN_STATE_SUCCEEDED, run.error
    assert run.result["model"].startswith("human/")
    assert dict(run.stages[0].counts) == {"people": 24, "none": 24, "left_out_missing": 1}
    # 24 people are too few for a promise, and it is said.
    assert "as far as was seen" in run.result["threshold_rule"]
