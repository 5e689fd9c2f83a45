"""What services leave in the object store for each other, as JSON: the shapes of those files, in one place.

A reader never guesses a key: ``cosmop_common.names`` spells them, the classes here read and write them.
"""

from __future__ import annotations

import datetime
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field

from cosmop_common.store import Store


def utc_now() -> datetime.datetime:
    """The time, as records carry it."""
    return datetime.datetime.now(datetime.UTC)


class Record(BaseModel):
    """A JSON object of the store. Unknown keys are ignored, so that older services read newer records."""

    model_config = ConfigDict(extra="ignore")

    async def save(self, store: Store, key: str) -> None:
        """Writes the record, replacing what was there."""
        await store.put(key, self.model_dump_json(indent=1).encode(), "application/json")

    async def save_new(self, store: Store, key: str) -> bool:
        """Writes the record unless the key exists: for what never changes."""
        return await store.put_new(key, self.model_dump_json(indent=1).encode(), "application/json")

    @classmethod
    async def load(cls, store: Store, key: str) -> Self:
        """Reads a record. Raises ``NotFoundError``."""
        return cls.model_validate_json(await store.get(key))


class Value(BaseModel):
    """A measured number with its 95 % interval, where one could be had."""

    value: float | None
    interval: tuple[float, float] | None = None
    #: How many observations it rests on.
    n: int | None = None
    #: How the interval was made: "bootstrap", "wilson", "influence".
    method: str = ""


class LabelRecord(Record):
    """``labels/<collection>/<ulid>``: one word of one labeller; written before anything says that it is saved."""

    ulid: str
    collection: str
    image: str
    labeller: str
    label: str
    unsure: bool = False
    origin: str = "console"
    at: datetime.datetime


class DatasetRecord(Record):
    """``datasets/<collection>/<version>/dataset.json``, beside ``manifest.parquet``."""

    collection: str
    version: str
    created: datetime.datetime
    classes: list[str]
    positive: str
    #: {"train": {"sport": 211, ...}, ...}
    splits: dict[str, dict[str, int]]
    #: Images that a label or a doubt kept out: {"unlabelled": n, "unsure": n, "disputed": n, "duplicate": n, "no_people": n}.
    left_out: dict[str, int] = {}
    group_distance: int
    #: Last stream sequence of each kind of fact that the version knows.
    sequences: dict[str, int] = {}
    manifest_sha256: str


class SnapshotRecord(Record):
    """``runs/<gan run>/snapshots/<images>/snapshot.json``: generator weights at a point of a GAN run."""

    run: str
    kimg: float
    #: Object keys.
    weights: str
    weights_sha256: str
    grid: str
    samples: str
    sample_count: int
    resolution: int
    seconds: float
    #: Training statistics at this point: losses, augmentation p, sign of D on reals.
    stats: dict[str, float] = {}


class MeasureRecord(BaseModel):
    """One measure of an evaluation."""

    #: "fid", "kid", "precision", "recall", "density", "coverage", "fd-efficientnet_lite0".
    name: str
    value: float
    interval: tuple[float, float] | None = None
    method: str = ""


class EvaluationRecord(Record):
    """``runs/<run>/evaluation.json``; of a snapshot also ``runs/<gan run>/evaluations/<images>.json``."""

    run: str
    reference: str
    candidate: str
    gan_run: str = ""
    kimg: float | None = None
    #: The first is the one that snapshots are ranked by; lower is better.
    measures: list[MeasureRecord]
    #: Weights' sha256, resize, N of each set, covariance norm: results of different protocols are never compared.
    protocol: str
    reference_images: int
    candidate_images: int
    warnings: list[str] = []
    seconds: float = 0.0

    @property
    def yardstick(self) -> tuple[str, str]:
        """What its first measure is measured with. Values of different yardsticks are never compared, ranked or drawn together."""
        return self.protocol, self.measures[0].name if self.measures else ""


class GanRunRecord(Record):
    """``runs/<gan run>/gan.json``: what a GAN run was and what came of it."""

    run: str
    collection: str
    dataset: str
    label: str
    resolution: int
    preset: str
    #: Real images that it learned from.
    images: int
    settings: dict[str, Any]
    parameters: dict[str, int]
    seconds: float
    #: Why training ended: "kimg reached", "time budget", "metric rising", "collapse: ...".
    ended_because: str
    #: kimg of each snapshot, in order.
    snapshots: list[float]
    #: kimg of the snapshot with the lowest first measure; the last one when none could be evaluated.
    best: float | None = None
    #: Why that one, and what could not be evaluated, in a sentence.
    best_because: str = ""


class SyntheticRecord(Record):
    """``runs/<generate run>/synthetic.json``: images made by a snapshot. Their bytes: ``samples``, a zip of PNGs."""

    run: str
    gan_run: str
    kimg: float
    count: int
    seed: int
    truncation: float
    label: str
    samples: str


class Prediction(BaseModel):
    """What a classifier said of one image of a dataset version."""

    image: str
    split: str
    label: str
    positive: bool
    score: float


class ModelCard(Record):
    """``models/<name>/<version>/card.json``: an immutable trained model."""

    name: str
    version: str
    #: "binary", "one_class", "human_detector".
    kind: str
    collection: str = ""
    network: str
    method: str = ""
    created: datetime.datetime = Field(default_factory=utc_now)
    #: "<collection>/<version>", or what it was fitted on in words.
    dataset: str
    classes: list[str] = []
    positive: str = ""
    threshold: float
    threshold_rule: str = ""
    #: {"test": {"precision": Value, ...}}
    metrics: dict[str, dict[str, Value]] = {}
    #: {"test": {"tp": 1, "fp": 2, "fn": 3, "tn": 4}}
    confusion: dict[str, dict[str, int]] = {}
    #: File name to sha256.
    files: dict[str, str] = {}
    details: dict[str, Any] = {}


class PredictionsRecord(Record):
    """``models/<name>/<version>/predictions.json``: every prediction on the validation and test splits."""

    model: str
    version: str
    predictions: list[Prediction]


class ClassifiedSynthetic(Record):
    """``runs/<pipeline run>/synthetic-classified.json``: the binary classifier's word on each synthetic image."""

    synthetic: str
    model: str
    total: int
    positive: int
    #: name, probability
    probabilities: dict[str, float]


Split = Literal["train", "val", "test"]
