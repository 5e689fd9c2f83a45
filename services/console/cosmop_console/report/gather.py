"""Reads all that a report tells: the run, the dataset version, snapshots, evaluations, model cards, pictures."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from cosmop_common.bus import Bus
from cosmop_common.collection import Collection
from cosmop_common.collections_kv import Collections
from cosmop_common.errors import NotFoundError
from cosmop_common.experiment_records import ExperimentRecord, experiments_of
from cosmop_common.facts import Facts
from cosmop_common.imagesets import read_set
from cosmop_common.model_evaluation import Mistake, ModelEvaluation, evaluation_file
from cosmop_common.names import dataset_key, evaluation_key, model_key, run_key, snapshot_key
from cosmop_common.pb.cosmop.v1 import console_pb2, runs_pb2
from cosmop_common.records import (
    ClassifiedSynthetic,
    DatasetRecord,
    EvaluationRecord,
    GanRunRecord,
    ModelCard,
    PredictionsRecord,
    SnapshotRecord,
)
from cosmop_common.runs import Runs
from cosmop_common.store import Store

from cosmop_console.report.curation import CopyGroup, Screening, copy_groups, decisions, image_bytes, screening
from cosmop_console.report.truth import Truth, measure_truth
from cosmop_console.training import Curves, find_film, find_gan

_SYNTHETIC_SHOWN = 24
_MISTAKES_SHOWN = 12


@dataclass(frozen=True)
class SnapshotView:
    """A snapshot with its evaluation, where there is one, and its sample grid (PNG)."""

    record: SnapshotRecord
    evaluation: EvaluationRecord | None
    grid: bytes


@dataclass(frozen=True)
class ClassifierView:
    """A trained model, how it was measured, and its worst mistakes on the test split: (mistake, image bytes), worst first."""

    card: ModelCard
    #: None for models of a time before evaluations were kept.
    evaluation: ModelEvaluation | None
    false_positives: list[tuple[Mistake, bytes]]
    false_negatives: list[tuple[Mistake, bytes]]


@dataclass
class ReportData:
    """All that a report tells."""

    run: runs_pb2.Run
    collection: Collection
    funnel: console_pb2.Funnel
    dataset: DatasetRecord | None = None
    gan: GanRunRecord | None = None
    snapshots: list[SnapshotView] = field(default_factory=list)
    #: The same seeds at each snapshot (PNG); empty for runs made before there were film strips.
    film: bytes = b""
    #: None for runs made before there were any.
    curves: Curves | None = None
    classifiers: dict[str, ClassifierView] = field(default_factory=dict)
    copies: list[CopyGroup] = field(default_factory=list)
    screening: Screening | None = None
    synthetic: ClassifiedSynthetic | None = None
    synthetic_images: list[tuple[float, bytes]] = field(default_factory=list)
    experiment: ExperimentRecord | None = None
    truth: Truth | None = None

    def stage(self, name: str) -> runs_pb2.Stage | None:
        """A stage of the run, or None."""
        return next((s for s in self.run.stages if s.name == name), None)

    def result(self, stage: str, key: str) -> str:
        """What a stage left, or an empty string."""
        found = self.stage(stage)
        return found.result[key] if found and key in found.result else ""


async def gather(bus: Bus, store: Store, run: str, funnel: console_pb2.Funnel) -> ReportData:
    """Reads it all; what does not exist yet is left out."""
    state = await Runs(bus).get(run)
    collection = await Collections(bus).get(state.collection)
    data = ReportData(state, collection, funnel)
    facts = Facts(bus)
    decided = await decisions(facts, collection.name)
    data.copies = await copy_groups(decided, store)
    data.screening = await screening(facts, store, collection.name, decided)
    data.gan, data.snapshots = await _gan(store, f"{run}-gan")
    if data.gan:
        data.film, data.curves = await find_film(store, data.gan.run), await Curves.find(store, data.gan.run)
    if dataset := data.result("freeze", "dataset"):
        name, version = dataset.split("/", 1)
        data.dataset = await DatasetRecord.load(store, dataset_key(name, version, "dataset.json"))
        data.experiment = await _newest_experiment(store, dataset, f"{run}-gan")
    for kind, stage, key in (("binary", "binary", "model"), ("one_class", "one-class", "model"), ("one_class_paper", "one-class", "paper")):
        if model := data.result(stage, key):
            data.classifiers[kind] = await _classifier(store, model)
    data.synthetic = await _find(store, run_key(run, "synthetic-classified.json"))
    if data.synthetic:
        data.synthetic_images = await _synthetic(store, data.synthetic)
    if state.job.pipeline.truth:
        data.truth = await measure_truth(facts, store, collection, Path(state.job.pipeline.truth))
    return data


async def _newest_experiment(store: Store, dataset: str, gan_run: str) -> ExperimentRecord | None:
    """The experiment to tell: of those on this dataset version with this run's generator the one that tried most, then the newest."""
    found = [e async for e in experiments_of(store, dataset) if e.gan_run == gan_run]
    return max(found, key=lambda e: (e.seeds * len(e.conditions), e.created), default=None)


async def _find(store: Store, key: str) -> ClassifiedSynthetic | None:
    try:
        return await ClassifiedSynthetic.load(store, key)
    except NotFoundError:
        return None


async def _gan(store: Store, run: str) -> tuple[GanRunRecord | None, list[SnapshotView]]:
    record = await find_gan(store, run)
    if record is None:
        return None, []
    views = []
    for kimg in record.snapshots:
        snapshot = await SnapshotRecord.load(store, snapshot_key(run, kimg, "snapshot.json"))
        try:
            evaluation = await EvaluationRecord.load(store, evaluation_key(run, kimg))
        except NotFoundError:
            evaluation = None
        views.append(SnapshotView(snapshot, evaluation, await store.get(snapshot.grid)))
    return record, views


async def _classifier(store: Store, model: str) -> ClassifierView:
    name, version = model.split("/", 1)
    card = await ModelCard.load(store, model_key(name, version, "card.json"))
    try:
        evaluation = await ModelEvaluation.load(store, evaluation_file(name, version))
        test = evaluation.splits["test"]
        wrong = test.false_positives, test.false_negatives
    except (NotFoundError, KeyError):
        evaluation, wrong = None, await _mistakes(store, card)
    false_positives, false_negatives = [[(m, await image_bytes(store, m.image)) for m in found[:_MISTAKES_SHOWN]] for found in wrong]
    return ClassifierView(card, evaluation, false_positives, false_negatives)


async def _mistakes(store: Store, card: ModelCard) -> tuple[list[Mistake], list[Mistake]]:
    """From the predictions, for models whose evaluation is not kept."""
    predictions = (await PredictionsRecord.load(store, model_key(card.name, card.version, "predictions.json"))).predictions
    wrong = [
        (Mistake(image=p.image, label=p.label, score=p.score, margin=abs(p.score - card.threshold)), p.positive)
        for p in predictions
        if p.split == "test" and p.positive != (p.label == card.positive)
    ]
    ordered = sorted(wrong, key=lambda pair: -pair[0].margin)
    return [m for m, positive in ordered if positive], [m for m, positive in ordered if not positive]


async def _synthetic(store: Store, judged: ClassifiedSynthetic) -> list[tuple[float, bytes]]:
    images = [
        (judged.probabilities[name], data)
        async for name, data in read_set(store, f"synthetic:{judged.synthetic}", limit=_SYNTHETIC_SHOWN)
        if name in judged.probabilities
    ]
    return sorted(images, key=lambda pair: -pair[0])
