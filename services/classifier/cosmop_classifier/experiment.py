"""The job ``augmentation_experiment``: does it help to train on images of the GAN?

The way: check that nothing leaks, get the synthetic images, look at every image once, fit each model once, conclude. What is slow is kept
as soon as it is there (features by chunk, each model's word on the test images), so a job that was killed repeats nothing.
"""

from __future__ import annotations

import asyncio
import hashlib
import io
import time
from collections.abc import Sequence

import numpy as np
from cosmop_common.bus import Bus
from cosmop_common.errors import CancelledError, CosmopError, NotFoundError
from cosmop_common.experiment_records import CellRecord, ExperimentRecord, cell_key, experiment_key
from cosmop_common.imagesets import ImageSet, open_set
from cosmop_common.jobs import JobHandler, submit
from cosmop_common.names import run_key
from cosmop_common.pb.cosmop.v1 import runs_pb2
from cosmop_common.records import SyntheticRecord
from cosmop_common.run_handle import RunHandle
from cosmop_common.runs import ENDED
from cosmop_common.store import Store
from PIL import Image

from cosmop_classifier import experiment_plan as plans
from cosmop_classifier.experiment_cells import Draw, Material, Part, cell_name, draw, fit_cell
from cosmop_classifier.experiment_fair import check_fair
from cosmop_classifier.experiment_outcome import Asked, conclude, method, to_csv
from cosmop_classifier.experiment_plan import PAPER, Condition, ExperimentError, ExperimentPlan
from cosmop_classifier.experiment_served import served_words
from cosmop_classifier.features import Item, feature_maps
from cosmop_classifier.plan import Options, TrainingPlan
from cosmop_classifier.training import Workbench

_BEST = -1.0
_POLL_SECONDS = 0.5
#: Below so many pixels a side, a synthetic image is far blurrier than a photo.
_SMALL = 128


class GenerationError(CosmopError):
    """The synthetic images could not be made."""

    permanent = True


def augmentation_experiment(bus: Bus, store: Store) -> JobHandler:
    """The handler of ``augmentation_experiment`` jobs. The run's result names the outcome: ``experiment`` and ``csv`` are object keys."""

    async def handle(run: RunHandle) -> None:
        plan = plans.check_experiment(run.job.augmentation_experiment)
        key = experiment_key(plan.dataset, run.id)
        if not await store.exists(key):
            began = time.monotonic()
            record = await _experiment(run, bus, store, plan)
            record.seconds = round(time.monotonic() - began, 1)
            await store.put(experiment_key(plan.dataset, run.id, "csv"), to_csv(record).encode(), "text/csv")
            # Last: an experiment is done when its record is there.
            await record.save(store, key)
        run.result(experiment=key, csv=experiment_key(plan.dataset, run.id, "csv"))

    return handle


async def _experiment(run: RunHandle, bus: Bus, store: Store, plan: ExperimentPlan) -> ExperimentRecord:
    dataset = await check_fair(store, plan)
    training = TrainingPlan(plan.collection, plan.dataset, plans.BINARY, plan.network, plan.seed, "", Options())
    bench = await Workbench.open(run, store, training)
    truth, groups = bench.truth("train"), [row.group for row in bench.rows["train"]]
    draws = [draw(truth, groups, 0, plan.options.share, plan.seed, number) for number in range(plan.seeds)]
    positives = max(int(truth[d.train].sum()) for d in draws)
    made = await _synthetic(run, bus, store, plan, positives)
    images = await open_set(store, f"synthetic:{made.run}")
    ratios = plans.ratios_that_fit(plan, positives, len(images.names))
    material, side = await _look(bench, plan, images)
    draws = [draw(truth, groups, len(images.names), plan.options.share, plan.seed, number) for number in range(plan.seeds)]
    tried = plans.conditions(ratios, plan.options.copies)
    cells = await _fit_all(run, store, plan, tried, material, draws)
    asked = Asked(plan.classifiers, tried, plan.seeds, material.test.truth, material.test.groups)
    served = await served_words(bench, plan.classifiers, [_member(images, name) for name in images.names], material.synthetic.pooled)
    with run.stage("conclude"):
        table, findings = await asyncio.to_thread(conclude, asked, cells, served)
    return ExperimentRecord(
        run=run.id,
        collection=plan.collection,
        dataset=plan.dataset,
        positive=dataset.positive,
        gan_run=plan.gan_run,
        kimg=made.kimg,
        synthetic=made.run,
        synthetic_images=len(images.names),
        resolution=side,
        network=plan.network,
        seeds=plan.seeds,
        ratios=list(ratios),
        copies=plan.options.copies,
        share=plan.options.share,
        test_images=len(material.test.truth),
        test_groups=len(set(material.test.groups)),
        conditions=table,
        findings=findings,
        method=method(asked, plan.options.share),
        warnings=_warnings(tried, cells, material, side),
        seconds=0.0,
    )


async def _synthetic(run: RunHandle, bus: Bus, store: Store, plan: ExperimentPlan, positives: int) -> SyntheticRecord:
    """The synthetic set: the one that the job names, or one that the GAN trainer is asked for."""
    if plan.synthetic:
        return await SyntheticRecord.load(store, run_key(plan.synthetic.partition(":")[2], "synthetic.json"))
    name = f"{run.id}-synthetic"
    count = plans.wanted(max(plan.ratios or plans.RATIOS), positives)
    with run.stage("generate", total=count, unit="images") as stage:
        job = runs_pb2.Job(run=name, collection=plan.collection, parent=run.id)
        job.generate.CopyFrom(runs_pb2.GenerateJob(gan_run=plan.gan_run, kimg=_BEST, count=count, seed=plan.seed, truncation=plan.options.truncation))
        await submit(bus, run.runs, "gan-trainer", job)
        while (state := await run.runs.get(name)).state not in ENDED:
            stage.set(done=sum(int(s.done) for s in state.stages))
            try:
                run.check()
            except CancelledError:
                await run.runs.cancel(name)
                raise
            await asyncio.sleep(_POLL_SECONDS)
        if state.state != runs_pb2.RUN_STATE_SUCCEEDED:
            raise GenerationError(f"run {name} made no images: {state.error or 'it was cancelled'}")
        stage.set(done=count)
    return await SyntheticRecord.load(store, run_key(name, "synthetic.json"))


async def _look(bench: Workbench, plan: ExperimentPlan, images: ImageSet) -> tuple[Material, int]:
    """Features of everything, each image once; and the side of the synthetic images."""
    items = [_member(images, name) for name in images.names]
    total = len(items) + len(bench.rows["train"]) + len(bench.rows["test"])
    if PAPER in plan.classifiers and total > plan.options.paper_images:
        raise ExperimentError(
            f"{PAPER} would hold the feature maps of {total} images in memory, more than option paper_images allows ({plan.options.paper_images}): "
            "leave that classifier out, or raise the option"
        )
    side = Image.open(io.BytesIO(await items[0].read())).width
    parts = {split: await _part(bench, plan, split) for split in ("train", "val", "test")}
    copies = await bench.pooled_copies(bench.items("train"), plan.options.copies, "features of augmented copies")
    pooled = await bench.pooled(items, "features of synthetic")
    maps = await _maps(bench, plan, items, "synthetic")
    synthetic = Part(pooled, np.ones(len(items), dtype=bool), [item.image for item in items], maps)
    return Material(parts["train"], parts["val"], parts["test"], synthetic, copies), side


async def _part(bench: Workbench, plan: ExperimentPlan, split: str) -> Part:
    items = bench.items(split)
    maps = await _maps(bench, plan, items, split) if split != "val" else None
    return Part(await bench.pooled(items, f"features of {split}"), bench.truth(split), [row.group for row in bench.rows[split]], maps)


async def _maps(bench: Workbench, plan: ExperimentPlan, items: Sequence[Item], name: str) -> np.ndarray[tuple[int, ...], np.dtype[np.float16]] | None:
    if PAPER not in plan.classifiers:
        return None
    with bench.run.stage(f"feature maps of {name}", total=len(items), unit="images") as progress:
        progress.set(done=0)

        def done(count: int) -> None:
            progress.advance(count)
            bench.run.check()

        return await feature_maps(await bench.eye(), items, done)


def _member(images: ImageSet, name: str) -> Item:
    """An image of the set. A set never changes, so its name and the image's stand for its bytes."""

    async def read() -> bytes:
        return (await images.read([name]))[0]

    return Item(hashlib.sha256(f"{images.spec}/{name}".encode()).hexdigest(), read)


async def _fit_all(
    run: RunHandle, store: Store, plan: ExperimentPlan, tried: Sequence[Condition], material: Material, draws: Sequence[Draw]
) -> dict[str, CellRecord]:
    """Every model's word on the test images; those of an earlier attempt are read."""
    cells: dict[str, CellRecord] = {}
    with run.stage("fit", total=len(plan.classifiers) * len(tried) * len(draws), unit="models") as stage:
        stage.set(done=0)
        for classifier in plan.classifiers:
            for chosen in draws:
                for condition in tried:
                    name = cell_name(classifier, condition, chosen.seed)
                    real = cells.get(cell_name(classifier, tried[0], chosen.seed))
                    called = real.synthetic_called if real else None
                    try:
                        cells[name] = await CellRecord.load(store, cell_key(run.id, name))
                    except NotFoundError:
                        cell = await asyncio.to_thread(fit_cell, classifier, condition, material, chosen, plan.options, called)
                        await cell.save_new(store, cell_key(run.id, name))
                        cells[name] = cell
                    stage.advance()
                    run.check()
    return cells


def _warnings(tried: Sequence[Condition], cells: dict[str, CellRecord], material: Material, side: int) -> list[str]:
    """What a reader must know before believing the table."""
    warnings = []
    if side < _SMALL:
        warnings.append(f"The synthetic images are {side} \u00d7 {side} pixels, enlarged to what the network looks at: blurred beside photos.")
    filtered = [c for name, c in cells.items() if "-filtered-" in name]
    if empty := sum(c.images["synthetic"] == 0 for c in filtered):
        warnings.append(f"In {empty} of {len(filtered)} filtered models no synthetic image passed the filter: they are trained on real images alone.")
    if PAPER in {name.split("-")[0] for name in cells} and any(c.copies for c in tried):
        warnings.append("The paper's one-class SVM is trained without augmented copies: its \u201cclassical\u201d is real images alone.")
    if not material.val.truth.any() or material.val.truth.all():
        warnings.append("The val split lacks a class: the binary thresholds come from cross-validated training images.")
    return warnings
