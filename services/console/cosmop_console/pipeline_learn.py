"""The second half of the pipeline: from a dataset version to snapshots, classifiers, and the report."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator

from cosmop_common.errors import NotReadyError
from cosmop_common.imagesets import read_set
from cosmop_common.names import dataset_key, model_key, run_key
from cosmop_common.pb.cosmop.v1 import classifier_pb2, gan_trainer_pb2, runs_pb2
from cosmop_common.records import ClassifiedSynthetic, DatasetRecord, ModelCard, SyntheticRecord

from cosmop_console.pipeline_context import Context, finished
from cosmop_console.report import build_report

_BEST = -1.0
#: Repetitions of the experiment in a run; `cosmop experiment augmentation` takes more.
_SEEDS = 3


async def train_gan(context: Context) -> None:
    """Trains the generator; its snapshots are evaluated while it goes on. The run's result is its best snapshot."""
    gan, evaluation = context.collection.gan, context.collection.evaluation
    with context.stage("gan", unit="images shown"):
        run = context.child("gan")
        options = dict(gan.options) | {"protocol": evaluation.protocol, "measures": ",".join(evaluation.measures)}
        if evaluation.max_images:
            options["max_images"] = str(evaluation.max_images)
        train = runs_pb2.TrainGanJob(
            dataset=context.kept("freeze", "dataset"), label=gan.label or context.collection.positive, resolution=gan.resolution, kimg=gan.kimg,
            snapshots=gan.snapshots, max_seconds=gan.max_seconds, preset=gan.preset, seed=gan.seed, samples=gan.samples, options=options,
        )  # fmt: skip
        request = gan_trainer_pb2.StartGanRunRequest(collection=context.collection.name, train=train, run=run, parent=context.handle.id)
        await context.call("gan-trainer", lambda: context.services.gan_trainer.StartRun(request))
        with context.stage("fid", unit="snapshots"):
            await context.follow(run, {"train": "gan", "evaluate": "fid"})


async def train_binary(context: Context) -> None:
    """Trains the binary classifier."""
    await _train(context, "binary", "binary")


async def train_one_class(context: Context) -> None:
    """Trains the one-class classifiers."""
    await _train(context, "one-class", "one_class")


async def _train(context: Context, name: str, kind: str) -> None:
    settings = context.collection.classifier
    with context.stage(name, unit="images") as stage:
        run = context.child(name)
        train = runs_pb2.TrainClassifierJob(
            dataset=context.kept("freeze", "dataset"), kind=kind, network=settings.network, max_seconds=settings.max_seconds,
            seed=settings.seed, options=settings.options,
        )  # fmt: skip
        request = classifier_pb2.TrainRequest(collection=context.collection.name, train=train, run=run, parent=context.handle.id)
        await context.call("classifier", lambda: context.services.classifier.Train(request))
        ended = await context.follow(run, name)
        stage.set(message="")
        stage.result(**dict(ended.result))


async def make_synthetic(context: Context) -> None:
    """Makes synthetic images with the best snapshot."""
    gan = context.collection.gan
    if not gan.synthetic:
        return
    with context.stage("synthetic", unit="images"):
        run = context.child("synthetic")
        generate = runs_pb2.GenerateJob(gan_run=context.child("gan"), kimg=_BEST, count=gan.synthetic, seed=gan.seed, truncation=gan.truncation)
        request = gan_trainer_pb2.GenerateRequest(collection=context.collection.name, generate=generate, run=run, parent=context.handle.id)
        await context.call("gan-trainer", lambda: context.services.gan_trainer.Generate(request))
        await context.follow(run, {"generate": "synthetic"})


async def judge(context: Context) -> None:
    """Asks the served classifier for its word on every synthetic image, over the endpoint that others call."""
    if not finished(context.handle, "synthetic"):
        return
    run = context.child("synthetic")
    record = await SyntheticRecord.load(context.store, run_key(run, "synthetic.json"))
    model, _, version = context.kept("binary", "model").partition("/")
    with context.stage("judge", total=record.count, unit="images") as stage:
        await _wait_served(context, model, version)

        async def requests() -> AsyncIterator[classifier_pb2.ClassifyRequest]:
            async for name, data in read_set(context.store, f"synthetic:{run}"):
                yield classifier_pb2.ClassifyRequest(content=data, model=model, version=version, collection=context.collection.name, tag=name)

        async def answers() -> list[classifier_pb2.ClassifyResponse]:
            stage.set(done=0)
            received = []
            async for answer in context.services.classifier.ClassifyStream(requests()):
                if answer.error:
                    raise NotReadyError(f"synthetic image {answer.tag} could not be classified: {answer.error}")
                received.append(answer)
                stage.advance()
            return received

        received = await context.call("classifier", answers)
        probabilities = {answer.tag: answer.probability for answer in received}
        positive = sum(answer.positive for answer in received)
        if len(probabilities) != record.count or any(math.isnan(p) for p in probabilities.values()):
            raise NotReadyError(f"{len(probabilities)} of {record.count} synthetic images were classified: run it again")
        judged = ClassifiedSynthetic(synthetic=run, model=f"{model}/{version}", total=record.count, positive=positive, probabilities=probabilities)
        await judged.save(context.store, run_key(context.handle.id, "synthetic-classified.json"))
        stage.set(positive=positive)


async def ask_the_question(context: Context) -> None:
    """The augmentation experiment, in small: one ratio, on the synthetic images that were made. Its features are mostly known already."""
    collection, settings = context.collection, context.collection.classifier
    if not finished(context.handle, "synthetic") or collection.gan.label not in {"", collection.positive}:
        return
    made = await SyntheticRecord.load(context.store, run_key(context.child("synthetic"), "synthetic.json"))
    dataset = context.kept("freeze", "dataset")
    version = await DatasetRecord.load(context.store, dataset_key(collection.name, dataset.partition("/")[2], "dataset.json"))
    model, _, number = context.kept("binary", "model").partition("/")
    card = await ModelCard.load(context.store, model_key(model, number, "card.json"))
    # As many synthetic images as real ones, or the share of it that there are, to two digits.
    ratio = min(1.0, max(0.01, math.floor(100 * made.count / max(1, version.splits["train"].get(version.positive, 0))) / 100))
    with context.stage("experiment", unit="models") as stage:
        run = context.child("experiment")
        experiment = runs_pb2.AugmentationExperimentJob(
            dataset=dataset, gan_run=context.child("gan"), synthetic=f"synthetic:{made.run}", network=settings.network, seed=settings.seed,
            seeds=_SEEDS, ratios=[ratio], options={"copies": str(max(1, card.details.get("copies", 1)))},
        )  # fmt: skip
        request = classifier_pb2.StartExperimentRequest(collection=collection.name, experiment=experiment, run=run, parent=context.handle.id)
        await context.call("classifier", lambda: context.services.classifier.StartExperiment(request))
        ended = await context.follow(run, "experiment")
        stage.set(message="")
        stage.result(**dict(ended.result))


async def _wait_served(context: Context, model: str, version: str) -> None:
    """The endpoint loads what was trained a moment ago in its own time."""
    request = classifier_pb2.ListModelsRequest(collection=context.collection.name)
    for _ in range(120):
        listed = await context.call("classifier", lambda: context.services.classifier.ListModels(request))
        if any(m.name == model and m.version == version and m.active for m in listed.models):
            return
        context.handle.check()
        await asyncio.sleep(0.5)
    raise NotReadyError(f"the classifier service does not serve {model}/{version} within a minute: its log says why")


async def write_report(context: Context) -> None:
    """Makes the report of this run."""
    with context.stage("report") as stage:
        # What the report reads of this run must be written before.
        await context.handle.flush()
        report = await build_report(context.handle.bus, context.store, context.handle.id, await context.funnel())
        stage.result(html=report.html_key, json=report.json_key)
        context.handle.result(html=report.html_key, json=report.json_key)
