"""What an augmentation experiment leaves in the object store: its outcome, and one file for each model that was fitted.

``datasets/<collection>/<version>/experiments/<run>.json`` (with ``.csv`` beside it) is the outcome, kept beside the dataset version that it
is about; ``runs/<run>/cells/<cell>.json`` is one model's word on the test split, written once, so that a job taken away repeats none.
"""

from __future__ import annotations

import datetime
from collections.abc import AsyncIterator

from pydantic import BaseModel, Field

from cosmop_common.names import dataset_key, run_key
from cosmop_common.records import Record, Value, utc_now
from cosmop_common.store import Store


class CellRecord(Record):
    """One fitted model: a classifier trained under one condition with one seed."""

    cell: str
    #: Training images by kind: "positive", "negative", "augmented" (copies), "synthetic".
    images: dict[str, int]
    threshold: float
    #: Of the test images, in the order of the manifest.
    scores: list[float]
    #: Of the synthetic images, in the order of their set: whether they are called positive. Only of models trained on real images, and on
    #: real images and their augmented copies.
    synthetic_called: list[bool] | None = None
    #: Of the negative test images, the share that scores below the median synthetic image; of the positive ones, the share above it.
    synthetic_between: tuple[float, float] | None = None


class ConditionRecord(BaseModel):
    """One classifier under one condition, over all seeds."""

    #: "binary", "one_class", "one_class_paper".
    classifier: str
    #: "real", "classical", "synthetic-1", "synthetic_only", "filtered".
    condition: str
    #: What it was trained on, in words.
    title: str
    #: Synthetic images for each real positive one that were asked for, where any were.
    ratio: float | None = None
    #: Training images by kind, the mean over seeds.
    images: dict[str, float]
    #: Means over seeds, each with its interval: "auroc", "average_precision", "precision", "recall", "accuracy", "f1".
    metrics: dict[str, Value]
    #: The same, minus those of real images alone; paired. Empty for "real".
    differences: dict[str, Value] = Field(default_factory=dict)
    #: AUROC of each seed; None where the test split lacks a class.
    by_seed: list[float | None]


class ServedWord(BaseModel):
    """What the model that is served calls the same synthetic images. It was made by another recipe than the experiment's."""

    #: "<name>/<version>".
    model: str
    #: What it learned from, in words.
    recipe: str
    called: Value
    #: The share of the synthetic images that it is unsure of.
    uncertain: float
    #: As ``CellRecord.synthetic_between``.
    between: tuple[float, float] | None = None


class FindingRecord(BaseModel):
    """The answer for one classifier."""

    #: "helps", "hurts", "no difference could be shown".
    verdict: str
    sentence: str
    #: The condition that was chosen beforehand to answer, and the measure.
    condition: str
    measure: str
    difference: Value
    #: Share of the synthetic images that the models trained on real images alone call positive; and, to compare, of the positive and
    #: of the negative test images.
    synthetic_called: Value
    positives_called: Value
    negatives_called: Value
    #: ``synthetic_called`` of the models that were trained on augmented copies as well.
    synthetic_called_copies: Value | None = None
    #: Means over the seeds of ``CellRecord.synthetic_between``, of models trained on real images alone.
    synthetic_between: tuple[float, float] | None = None
    #: None where no model of this kind is served.
    served: ServedWord | None = None
    #: How these shares go together, in words.
    synthetic_note: str = ""


class ExperimentRecord(Record):
    """The outcome of an experiment."""

    run: str
    created: datetime.datetime = Field(default_factory=utc_now)
    collection: str
    dataset: str
    positive: str
    gan_run: str
    kimg: float
    #: The synthetic set, its size, and the side of its images in pixels.
    synthetic: str
    synthetic_images: int
    resolution: int
    network: str
    seeds: int
    ratios: list[float]
    #: Augmented copies of each real image under "classical".
    copies: int
    #: Of the near-duplicate groups of the train split, the share that each seed trains on.
    share: float
    test_images: int
    test_groups: int
    conditions: list[ConditionRecord]
    findings: dict[str, FindingRecord]
    #: How the intervals were made, in words.
    method: str
    seconds: float
    warnings: list[str] = Field(default_factory=list)


def experiment_key(dataset: str, run: str, ending: str = "json") -> str:
    """``datasets/<collection>/<version>/experiments/<run>.<ending>``."""
    collection, _, version = dataset.partition("/")
    return dataset_key(collection, version, f"experiments/{run}.{ending}")


def cell_key(run: str, cell: str) -> str:
    """``runs/<run>/cells/<cell>.json``."""
    return run_key(run, f"cells/{cell}.json")


async def experiments_of(store: Store, dataset: str) -> AsyncIterator[ExperimentRecord]:
    """All experiments on a dataset version."""
    collection, _, version = dataset.partition("/")
    async for key in store.list(dataset_key(collection, version, "experiments/")):
        if key.endswith(".json"):
            yield await ExperimentRecord.load(store, key)
