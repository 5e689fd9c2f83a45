"""Reads all that a report tells: the run, the dataset version, snapshots, evaluations, model cards, pictures."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from cosmop_common.bus import Bus
from cosmop_common.collection import Collection
from cosmop_common.collections_kv import Collections
from cosmop_common.errors import CosmopError, NotFoundError
from cosmop_common.facts import Facts
from cosmop_common.imagesets import read_set
from cosmop_common.names import dataset_key, evaluation_key, model_key, run_key, snapshot_key
from cosmop_common.pb.cosmop.v1 import console_pb2, runs_pb2
from cosmop_common.records import (
    ClassifiedSynthetic,
    DatasetRecord,
    EvaluationRecord,
    GanRunRecord,
    ModelCard,
    Prediction,
    PredictionsRecord,
    SnapshotRecord,
)
from cosmop_common.runs import Runs
from cosmop_common.store import Store

from cosmop_console.report.truth import Truth, measure_truth

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
    """A trained model, and its worst mistakes on the test split: (prediction, image bytes), surest first."""

    card: ModelCard
    false_positives: list[tuple[Prediction, bytes]]
    false_negatives: list[tuple[Prediction, bytes]]


@dataclass
class ReportData:
    """All that a report tells."""

    run: runs_pb2.Run
    collection: Collection
    funnel: console_pb2.Funnel
    dataset: DatasetRecord | None = None
    gan: GanRunRecord | None = None
    snapshots: list[SnapshotView] = field(default_factory=list)
    classifiers: dict[str, ClassifierView] = field(default_factory=dict)
    detector: ModelCard | None = None
    synthetic: ClassifiedSynthetic | None = None
    synthetic_images: list[tuple[float, bytes]] = field(default_factory=list)
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
    dataset = data.result("freeze", "dataset")
    if dataset:
        name, version = dataset.split("/", 1)
        data.dataset = await DatasetRecord.load(store, dataset_key(name, version, "dataset.json"))
    data.gan, data.snapshots = await _gan(store, f"{run}-gan")
    for stage, kind in (("binary", "binary"), ("one-class", "one_class")):
        if model := data.result(stage, "model"):
            data.classifiers[kind] = await _classifier(store, model)
    data.synthetic = await _find(store, run_key(run, "synthetic-classified.json"))
    if data.synthetic:
        data.synthetic_images = await _synthetic(store, data.synthetic)
    if state.job.pipeline.truth:
        data.truth = await measure_truth(Facts(bus), store, collection, Path(state.job.pipeline.truth))
        data.detector = data.truth.detector if data.truth else None
    return data


async def _find(store: Store, key: str) -> ClassifiedSynthetic | None:
    try:
        return await ClassifiedSynthetic.load(store, key)
    except NotFoundError:
        return None


async def _gan(store: Store, run: str) -> tuple[GanRunRecord | None, list[SnapshotView]]:
    try:
        record = await GanRunRecord.load(store, run_key(run, "gan.json"))
    except NotFoundError:
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
    predictions = (await PredictionsRecord.load(store, model_key(name, version, "predictions.json"))).predictions
    test = [p for p in predictions if p.split == "test"]
    false_positives = sorted((p for p in test if p.positive and p.label != card.positive), key=lambda p: -p.score)
    false_negatives = sorted((p for p in test if not p.positive and p.label == card.positive), key=lambda p: p.score)
    return ClassifierView(card, await _pictures(store, false_positives), await _pictures(store, false_negatives))


async def _pictures(store: Store, predictions: list[Prediction]) -> list[tuple[Prediction, bytes]]:
    shown = []
    for prediction in predictions[:_MISTAKES_SHOWN]:
        try:
            shown.append((prediction, await store.get_image(prediction.image)))
        except CosmopError:
            # Erased since: the numbers stay, the picture goes.
            shown.append((prediction, b""))
    return shown


async def _synthetic(store: Store, judged: ClassifiedSynthetic) -> list[tuple[float, bytes]]:
    images = [
        (judged.probabilities[name], data)
        async for name, data in read_set(store, f"synthetic:{judged.synthetic}", limit=_SYNTHETIC_SHOWN)
        if name in judged.probabilities
    ]
    return sorted(images, key=lambda pair: -pair[0])
