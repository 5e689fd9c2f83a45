"""The augmentation experiment as a job: run, killed and gone on with, and refused where test images could have leaked."""

from __future__ import annotations

import asyncio
import io
from pathlib import Path

import grpc
import pytest
from classifier_world import drawing, drawn_dataset, serving
from cosmop_classifier.experiment import augmentation_experiment
from cosmop_classifier.experiment_cells import fit_cell
from cosmop_common.bus import Bus
from cosmop_common.experiment_records import ExperimentRecord, experiments_of
from cosmop_common.imagesets import pack
from cosmop_common.jobs import run_jobs, submit
from cosmop_common.names import run_key
from cosmop_common.pb.cosmop.v1 import classifier_pb2, runs_pb2
from cosmop_common.records import GanRunRecord, SyntheticRecord
from cosmop_common.runs import Runs
from cosmop_common.settings import ConnectionSettings
from cosmop_common.store import Store
from PIL import Image
from work_off import work_off

SIZES = {"train": (12, 12), "val": (4, 4), "test": (8, 8)}


async def generator(store: Store, dataset: str, *, images: int = 12, label: str = "disc", synthetic: int = 24) -> None:
    """A GAN run that ended, and a synthetic set of it: small drawings of the positive class."""
    await GanRunRecord(
        run="g", collection="drawn", dataset=dataset, label=label, resolution=32, preset="tiny", images=images, settings={}, parameters={},
        seconds=1, ended_because="kimg reached", snapshots=[1.0], best=1.0,
    ).save(store, run_key("g", "gan.json"))  # fmt: skip
    await synthetic_set(store, "g-s", "g", synthetic)


async def synthetic_set(store: Store, run: str, gan_run: str, count: int) -> None:
    images = []
    for number in range(count):
        sink = io.BytesIO()
        Image.open(io.BytesIO(drawing(5000 + number, positive=True))).resize((32, 32)).save(sink, "PNG")
        images.append((f"{number:010d}.png", sink.getvalue()))
    await store.put(run_key(run, "samples.zip"), pack(images))
    record = SyntheticRecord(run=run, gan_run=gan_run, kimg=1.0, count=count, seed=0, truncation=1, label="disc", samples=run_key(run, "samples.zip"))
    await record.save(store, run_key(run, "synthetic.json"))


async def experiment(bus: Bus, store: Store, settings: ConnectionSettings, dataset: str, run: str, **more: object) -> runs_pb2.Run:
    job = runs_pb2.Job(run=run, collection="drawn")
    options = {"copies": "1"} | more.pop("options", {})  # type: ignore[operator]
    spec = {"gan_run": "g", "synthetic": "synthetic:g-s", "seeds": 2, "ratios": [0.5, 1.0]} | more
    job.augmentation_experiment.CopyFrom(runs_pb2.AugmentationExperimentJob(dataset=dataset, network="efficientnet_lite0", options=options, **spec))
    await submit(bus, Runs(bus), "classifier", job)
    handlers = {"augmentation_experiment": augmentation_experiment(bus, store)}
    await work_off(bus, "classifier", handlers, settings)
    return await Runs(bus).get(run)


async def test_it_is_killed_goes_on_and_answers_for_each_classifier(
    bus: Bus, store: Store, settings: ConnectionSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = await drawn_dataset(store, sizes=SIZES)
    await generator(store, dataset)
    fitted: list[str] = []

    def dies_once(classifier: str, condition, material, chosen, options, called):
        if len(fitted) == 5 and "died" not in fitted:
            fitted.append("died")
            raise OSError("the process was taken away")
        cell = fit_cell(classifier, condition, material, chosen, options, called)
        fitted.append(cell.cell)
        return cell

    monkeypatch.setattr("cosmop_classifier.experiment.fit_cell", dies_once)
    monkeypatch.setattr("cosmop_common.jobs._RETRY_SECONDS", 0.1)
    run = await experiment(bus, store, settings, dataset, "e-1")
    assert run.state == runs_pb2.RUN_STATE_SUCCEEDED, run.error
    fitted.remove("died")
    assert len(fitted) == len(set(fitted)) == 2 * 6 * 2, "each model is fitted once, the death notwithstanding"

    record = ExperimentRecord.model_validate_json(await store.get(run.result["experiment"]))
    assert [e.run async for e in experiments_of(store, dataset)] == ["e-1"]
    names = [c.condition for c in record.conditions if c.classifier == "binary"]
    assert names == ["real", "classical", "synthetic-0_5", "synthetic-1", "filtered", "synthetic_only"]
    rows = {(c.classifier, c.condition): c for c in record.conditions}
    assert rows["binary", "synthetic-1"].images == {"positive": 10, "negative": 10, "augmented": 0, "synthetic": 10}
    assert rows["binary", "classical"].images["augmented"] == 20
    assert rows["one_class", "synthetic_only"].images == {"positive": 0, "negative": 0, "augmented": 0, "synthetic": 10}
    for key, row in rows.items():
        assert row.metrics["auroc"].n == record.test_images == 16
        if key[1] != "real":
            alone = rows[key[0], "real"]
            difference = row.differences["auroc"]
            assert difference.value == pytest.approx(row.metrics["auroc"].value - alone.metrics["auroc"].value)
            assert difference.interval is not None
            assert difference.interval[0] <= difference.value <= difference.interval[1]
    for finding in record.findings.values():
        assert finding.verdict in {"helps", "hurts", "no difference could be shown"}
        assert finding.verdict in finding.sentence
        assert finding.condition == "synthetic-1"
        assert 0 <= finding.synthetic_called.value <= 1
        assert finding.synthetic_called.n == 24
    lines = (await store.get(run.result["csv"])).decode().splitlines()
    assert len(lines) == 1 + 2 * 6 * 6


async def test_without_a_set_the_gan_trainer_is_asked_for_one(bus: Bus, store: Store, settings: ConnectionSettings) -> None:
    dataset = await drawn_dataset(store, sizes=SIZES)
    await generator(store, dataset)
    asked: list[runs_pb2.GenerateJob] = []

    async def generate(run) -> None:
        asked.append(run.job.generate)
        await synthetic_set(store, run.id, run.job.generate.gan_run, run.job.generate.count)

    stop = asyncio.Event()
    trainer = asyncio.create_task(run_jobs(bus, "gan-trainer", {"generate": generate}, settings=settings, stopping=stop))
    run = await experiment(bus, store, settings, dataset, "e-2", synthetic="", options={"classifiers": "one_class_paper"}, seeds=1)
    stop.set()
    await trainer
    assert run.state == runs_pb2.RUN_STATE_SUCCEEDED, run.error
    assert [(a.gan_run, a.kimg, a.count) for a in asked] == [("g", -1, 10)], "as many as the largest ratio needs"
    record = ExperimentRecord.model_validate_json(await store.get(run.result["experiment"]))
    assert {c.classifier for c in record.conditions} == {"one_class_paper"}
    assert record.synthetic == "e-2-synthetic"


@pytest.mark.parametrize(
    ("gan", "more", "message"),
    [
        ({"dataset": "drawn/vother"}, {}, "its training images could be test images here"),
        ({"images": 13}, {}, "it has seen others"),
        ({"label": ""}, {}, "learned all classes at once"),
        ({}, {"gan_run": "nobody"}, "GAN run 'nobody' has no result"),
        ({}, {"ratios": [9.0]}, "ratio 9 needs 90 synthetic images, synthetic:g-s has 24"),
        ({}, {"options": {"sead": "1"}}, "option 'sead' is not known"),
        ({}, {"options": {"classifiers": "one_class_paper", "paper_images": "40"}}, "the feature maps of 64 images"),
    ],
)
async def test_what_would_not_be_fair_is_refused(bus: Bus, store: Store, settings: ConnectionSettings, gan, more, message) -> None:
    dataset = await drawn_dataset(store, sizes=SIZES)
    await generator(store, **({"dataset": dataset} | gan))
    run = await experiment(bus, store, settings, dataset, "e-3", **more)
    assert run.state == runs_pb2.RUN_STATE_FAILED
    assert message in run.error


async def test_the_endpoint_refuses_at_once_and_queues_what_is_fair(bus: Bus, store: Store, tmp_path: Path) -> None:
    dataset = await drawn_dataset(store, sizes=SIZES)
    await generator(store, dataset)
    spec = runs_pb2.AugmentationExperimentJob(dataset=dataset, gan_run="g", synthetic="synthetic:g-s", network="efficientnet_lite0")
    request = classifier_pb2.StartExperimentRequest(experiment=spec, run="asked")
    async with serving(bus, store, tmp_path) as served:
        run = await served.classifier.StartExperiment(request)
        assert (run.kind, run.collection, run.state) == ("classifier.augmentation_experiment", "drawn", runs_pb2.RUN_STATE_QUEUED)
        await synthetic_set(store, "alien", "another", 4)
        for field, value, code in (
            ("gan_run", "nobody", grpc.StatusCode.NOT_FOUND),
            ("gan_run", "", grpc.StatusCode.INVALID_ARGUMENT),
            ("synthetic", "synthetic:alien", grpc.StatusCode.INVALID_ARGUMENT),
            ("dataset", "drawn/vnone", grpc.StatusCode.NOT_FOUND),
        ):
            wrong = classifier_pb2.StartExperimentRequest(experiment=spec)
            setattr(wrong.experiment, field, value)
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await served.classifier.StartExperiment(wrong)
            assert refused.value.code() == code, refused.value.details()
        await generator(store, "drawn/vother")
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await served.classifier.StartExperiment(request)
        assert refused.value.code() == grpc.StatusCode.FAILED_PRECONDITION
