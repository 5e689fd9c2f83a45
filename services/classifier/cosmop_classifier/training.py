"""What both kinds of training stand on: the dataset version, features of its splits, and the registration of what was fitted."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from cosmop_common.datasets import ManifestRow, load_dataset
from cosmop_common.errors import InvalidInputError
from cosmop_common.facts import Facts
from cosmop_common.imagesets import read_set
from cosmop_common.model_evaluation import ModelEvaluation
from cosmop_common.records import DatasetRecord, ModelCard, PredictionsRecord
from cosmop_common.run_handle import RunHandle, StageHandle
from cosmop_common.store import Store
from cosmop_vision.export import exported
from cosmop_vision.networks import find_network
from cosmop_vision.onnx_session import OnnxSession
from cosmop_vision.preprocess import Preprocessing
from cosmop_vision.runtime import Extractor
from cosmop_vision.settings import VisionSettings
from numpy.typing import NDArray

from cosmop_classifier import registry
from cosmop_classifier.evaluation import SplitEvaluation, groups_parted
from cosmop_classifier.features import Eye, Item, given, pooled_features, stored
from cosmop_classifier.heads import Array, Features, Head
from cosmop_classifier.plan import FEATURE_SHARE, TrainingPlan
from cosmop_classifier.registry import ModelFiles, TrainingImages
from cosmop_classifier.served import preprocessing_details, smoke_pixels, to_scores
from cosmop_classifier.traits import Traits, traits_of

#: Counts changes of how models are made: part of every version's digest.
RECIPE = 3
SPLITS = ("train", "val", "test")


class EmptySplitError(InvalidInputError):
    """A dataset version without images where they are needed."""


@dataclass(frozen=True)
class Fitted:
    """A model as it goes into the registry."""

    head: Head
    #: The network as ONNX.
    network: Path
    method: str
    threshold: float
    threshold_rule: str
    temperature: float
    band: tuple[float, float]
    #: Images that it was fitted on, in the order of the head's bank where it has one.
    images: list[str]
    val: SplitEvaluation
    test: SplitEvaluation
    details: dict[str, Any] = field(default_factory=dict)


class Workbench:
    """A job at work: its plan, its data, its network."""

    def __init__(self, run: RunHandle, store: Store, plan: TrainingPlan, record: DatasetRecord, rows: Sequence[ManifestRow]) -> None:
        self.run, self.store, self.plan, self.record = run, store, plan, record
        self.rows = {split: [r for r in rows if r.split == split] for split in SPLITS}
        self.settings = VisionSettings()
        self.network = find_network(plan.network)
        self.preprocessing = Preprocessing.of(self.network)
        #: On ``time.monotonic``'s clock: the budget counts from here, for each attempt anew.
        self.started = time.monotonic()
        self._extractor: Extractor | None = None

    @classmethod
    async def open(cls, run: RunHandle, store: Store, plan: TrainingPlan) -> Workbench:
        """Reads the dataset version.

        Raises:
            NotFoundError: it does not exist.
            EmptySplitError: there is nothing to train or to test on.
        """
        record, rows = await load_dataset(store, plan.dataset)
        bench = cls(run, store, plan, record, rows)
        for split in ("train", "test"):
            if not bench.rows[split]:
                raise EmptySplitError(
                    f"the {split} split of {plan.dataset} is empty ({len(rows)} images in all): label more images, or freeze with other shares"
                )
        return bench

    def truth(self, split: str) -> NDArray[np.bool_]:
        """Whether each image of a split is positive: (n,)."""
        return np.array([r.label == self.record.positive for r in self.rows[split]], dtype=bool)

    def items(self, split: str) -> list[Item]:
        """A split's images."""
        return [stored(self.store, row.image) for row in self.rows[split]]

    def version(self, **more: Any) -> str:
        """The version's name: a digest of all that goes into the model."""
        inputs = self.plan.inputs() | {"manifest": self.record.manifest_sha256, "weights": self.network.weights.sha256, "recipe": RECIPE} | more
        return registry.version_of(inputs)

    async def eye(self) -> Eye:
        """The frozen network, loaded at first use."""
        if self._extractor is None:
            self._extractor = await asyncio.to_thread(Extractor.create, self.plan.network, ("pooled", "map"), settings=self.settings)
        return Eye(self.network, self.preprocessing, partial(_run, self._extractor))

    async def network_file(self) -> Path:
        """The frozen network as ONNX."""
        return await asyncio.to_thread(exported, self.plan.network, self.settings)

    def past(self, share: float) -> bool:
        """Whether more than this share of the budget is spent."""
        return bool(self.plan.max_seconds) and time.monotonic() - self.started > share * self.plan.max_seconds

    async def pooled(self, items: Sequence[Item], stage: str) -> Array:
        """Pooled features of images as they are, as a stage of the run."""
        with self.run.stage(stage, total=len(items), unit="images") as progress:
            progress.set(done=0)
            return await self._pooled(items, 0, progress)

    async def pooled_copies(self, items: Sequence[Item], copies: int, stage: str) -> list[Array]:
        """Pooled features of augmented copies, copy by copy, as one stage. Past the budget's share for features it ends with fewer."""
        found: list[Array] = []
        with self.run.stage(stage, total=len(items) * copies, unit="images") as progress:
            progress.set(done=0)
            for copy in range(1, copies + 1):
                if self.past(FEATURE_SHARE):
                    progress.set(total=len(items) * len(found), message=f"{len(found)} of {copies} copies: the budget is spent")
                    break
                found.append(await self._pooled(items, copy, progress))
        return found

    async def _pooled(self, items: Sequence[Item], copy: int, progress: StageHandle) -> Array:
        def done(count: int) -> None:
            progress.advance(count)
            self.run.check()

        return await pooled_features(self.store, self.plan.dataset, await self.eye(), items, copy=copy, seed=self.plan.seed, done=done)

    async def traits(self) -> dict[str, Traits]:
        """What is known of the images that are measured on, for slices."""
        images = [row.image for split in ("val", "test") for row in self.rows[split]]
        return await traits_of(self.store, self.plan.dataset, images, Facts(self.run.bus))

    async def synthetic(self) -> list[Item]:
        """The job's synthetic images, by their bytes; none where it names no set."""
        if not self.plan.synthetic:
            return []
        return [given(data) async for _, data in read_set(self.store, self.plan.synthetic, limit=self.plan.options.synthetic_limit)]

    async def register(self, name: str, version: str, kind: str, fitted: Fitted) -> ModelCard:
        """Writes a model version into the store, its smoke test included."""
        network = fitted.network.read_bytes()
        smoke = await asyncio.to_thread(self._smoke, kind, fitted)
        card = ModelCard(
            name=name,
            version=version,
            kind=kind,
            collection=self.plan.collection,
            network=self.plan.network,
            method=fitted.method,
            dataset=self.plan.dataset,
            classes=self.record.classes,
            positive=self.record.positive,
            threshold=fitted.threshold,
            threshold_rule=fitted.threshold_rule,
            metrics={"val": fitted.val.metrics, "test": fitted.test.metrics},
            confusion={"val": fitted.val.confusion, "test": fitted.test.confusion},
            details=fitted.details
            | {
                "head": fitted.head.kind,
                "temperature": fitted.temperature,
                "band": list(fitted.band),
                "smoke": smoke,
                "preprocessing": preprocessing_details(self.preprocessing),
                "plan": self.plan.inputs(),
                "splits": self.record.splits,
                "warnings": [*fitted.details.get("warnings", []), *fitted.val.warnings, *fitted.test.warnings],
            },
        )
        predictions = PredictionsRecord(model=name, version=version, predictions=[*fitted.val.predictions, *fitted.test.predictions])
        written = ModelFiles(card, network, fitted.head.to_bytes(), self._evaluation(card, fitted))
        return await registry.save(self.store, written, predictions, TrainingImages(images=fitted.images))

    def _evaluation(self, card: ModelCard, fitted: Fitted) -> ModelEvaluation:
        return ModelEvaluation(
            model=card.name,
            version=card.version,
            kind=card.kind,
            dataset=card.dataset,
            threshold=card.threshold,
            threshold_rule=card.threshold_rule,
            groups_parted=groups_parted(row for rows in self.rows.values() for row in rows),
            splits={"val": fitted.val.report, "test": fitted.test.report},
        )

    def _smoke(self, kind: str, fitted: Fitted) -> list[float]:
        """What the registered files, run as the serving process will run them, say of a fixed input."""
        session = OnnxSession(fitted.network, self.settings)
        outputs = session.run(smoke_pixels(self.preprocessing.size), ["pooled", "map"])
        return [float(s) for s in to_scores(kind, fitted.head.score(Features(outputs[0], outputs[1])), fitted.temperature)]


def _run(extractor: Extractor, pixels: Array) -> Features:
    outputs = extractor.run(pixels)
    return Features(outputs["pooled"], outputs["map"])
