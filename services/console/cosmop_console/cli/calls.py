"""The small commands: one call each, followed by its progress where it takes long."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import grpc
from cosmop_common.bus import Bus
from cosmop_common.datasets import split_reference
from cosmop_common.pb.cosmop.v1 import (
    classifier_pb2,
    console_pb2,
    fid_evaluator_pb2,
    gan_trainer_pb2,
    runs_pb2,
)
from cosmop_common.store import Store
from cosmop_common.topology import provision as provision_streams

from cosmop_console.cli.models import figures
from cosmop_console.cli.remote import call, follow, name_and_value, settings_of
from cosmop_console.cli.reports import fetch_report, summary
from cosmop_console.cli.target import Target
from cosmop_console.cli.watch import say
from cosmop_console.clients import known_error

T = TypeVar("T")
_BEST = -1.0


async def status(target: Target) -> None:
    """Collections and runs."""
    async with target.services() as services:
        collections = await call("console", services.console.ListCollections(console_pb2.ListCollectionsRequest()))
        for collection in collections.collections:
            funnel = await call("console", services.console.GetFunnel(console_pb2.GetFunnelRequest(collection=collection.name)))
            waiting, labelled = funnel.pending + funnel.unscreened, sum(funnel.labelled.values())
            say(f"{collection.name}: scraped {funnel.scraped}, unique {funnel.unique}, people {funnel.people}, labelled {labelled}, waiting {waiting}")
        runs = await call("console", services.console.ListRuns(runs_pb2.ListRunsRequest(limit=20)))
        for run in runs.runs:
            state = runs_pb2.RunState.Name(run.state).removeprefix("RUN_STATE_").lower()
            say(f"  {state:<10} {run.kind:<28} {run.id}" + (f"  {run.error}" if run.error else ""))


async def provision(target: Target) -> None:
    """Streams, consumers, buckets."""
    bus = await Bus.connect(target.connection, "provision")
    try:
        made = await provision_streams(bus.js, target.connection)
    finally:
        await bus.close()
    store = Store(target.connection)
    try:
        await store.ensure_bucket()
    finally:
        store.close()
    say("\n".join([*made, f"object bucket {target.connection.s3_bucket}"]))


async def freeze(target: Target, collection: str) -> None:
    """A dataset version."""
    async with target.services() as services:
        version = await call("console", services.console.FreezeDataset(console_pb2.FreezeDatasetRequest(collection=collection)))
    say(f"{version.collection}/{version.version}  {version.images} images")
    for part, count in sorted(version.splits.items()):
        say(f"  {part:<24}{count:>8}")


async def train_classifier(target: Target, dataset: str, kind: str, wanted: dict[str, Any], options: Sequence[str] = ()) -> None:
    """A classifier as the collection says, watched; its test figures at the end.

    Args:
        wanted: fields of the job that override the collection's; None: its own.
        options: further options of the job, ``name=value``.
    """
    name, _ = split_reference(dataset)
    over = runs_pb2.TrainClassifierJob(**{k: v for k, v in wanted.items() if v is not None}, options=dict(map(name_and_value, options)))
    async with target.services() as services:
        settings = (await settings_of(services, name)).classifier
        train = runs_pb2.TrainClassifierJob(
            dataset=dataset, kind=kind, network=settings.network, max_seconds=settings.max_seconds, seed=settings.seed, options=settings.options
        )
        train.MergeFrom(over)
        run = await follow(services, await call("classifier", services.classifier.Train(classifier_pb2.TrainRequest(collection=name, train=train))))
        for result in ("model", "paper"):
            if result in run.result:
                say(await figures(services, run.result[result]))


async def evaluate(target: Target, collection: str, job: runs_pb2.EvaluateJob) -> None:
    """One set against another."""
    async with target.services() as services:
        run = await follow(
            services, await call("fid-evaluator", services.fid_evaluator.Evaluate(fid_evaluator_pb2.EvaluateRequest(collection=collection, evaluate=job)))
        )
        report = await call("fid-evaluator", services.fid_evaluator.GetReport(runs_pb2.GetRunRequest(run=run.id)))
    for measure in report.measures:
        interval = f"  [{measure.low:.4f}, {measure.high:.4f}] ({measure.interval})" if measure.HasField("low") else ""
        say(f"{measure.name:<24}{measure.value:>12.4f}{interval}")
    say("\n".join([f"protocol {report.protocol}", f"{report.reference_images} against {report.candidate_images} images", *report.warnings]))


async def generate(target: Target, gan_run: str, count: int, seed: int, truncation: float) -> None:
    """A synthetic set."""
    async with target.services() as services:
        gan = await call("console", services.console.GetRun(runs_pb2.GetRunRequest(run=gan_run)))
        job = runs_pb2.GenerateJob(gan_run=gan_run, kimg=_BEST, count=count, seed=seed, truncation=truncation)
        run = await follow(
            services, await call("gan-trainer", services.gan_trainer.Generate(gan_trainer_pb2.GenerateRequest(collection=gan.collection, generate=job)))
        )
    say(f"synthetic:{run.id}")


async def classify(target: Target, collection: str, images: Sequence[Path], one_class: bool) -> None:
    """Image files over the endpoint."""

    async def requests() -> AsyncIterator[classifier_pb2.ClassifyRequest]:
        for path in images:
            yield classifier_pb2.ClassifyRequest(content=path.read_bytes(), collection=collection, one_class=one_class, tag=str(path))

    async with target.services() as services:
        try:
            async for answer in services.classifier.ClassifyStream(requests()):
                verdict = answer.error or f"{answer.label} {answer.probability:.3f}" + (" (a person should look)" if answer.uncertain else "")
                if answer.HasField("one_class"):
                    verdict += f"; one-class {'positive' if answer.one_class.positive else 'negative'} {answer.one_class.score:.3f}"
                say(f"{answer.tag}: {verdict}")
        except grpc.aio.AioRpcError as error:
            raise known_error(error, "classifier") from error


async def report(target: Target, run_id: str, folder: Path) -> None:
    """A pipeline run's report, made anew."""
    async with target.services() as services:
        built = await call("console", services.console.BuildReport(console_pb2.BuildReportRequest(run=run_id)))
        run = await call("console", services.console.GetRun(runs_pb2.GetRunRequest(run=run_id)))
    run.result["html"], run.result["json"] = built.html_key, built.json_key
    path = await fetch_report(target, run, folder)
    assert path is not None
    say(summary(path.with_suffix(".json"), 0))
    say(f"report: {path}")
