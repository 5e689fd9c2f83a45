"""How a classifier was measured: ``models/<name>/<version>/evaluation.json``, for whoever draws or compares it.

The card carries the headline figures; here is what stands behind them, split by split: curves with their intervals, the
calibration bins, the worst mistakes, and the same measures slice by slice.
"""

from __future__ import annotations

import datetime

from pydantic import BaseModel, Field

from cosmop_common.names import model_key
from cosmop_common.records import Record, Value, utc_now

EVALUATION = "evaluation.json"
Interval = tuple[float, float]


class CurvePoint(BaseModel):
    """One threshold of the precision-recall curve; images with a score at or above it are called positive."""

    threshold: float
    precision: float
    recall: float
    #: 95 % bootstrap intervals of both at this threshold.
    precision_interval: Interval | None = None
    recall_interval: Interval | None = None


class CalibrationBin(BaseModel):
    """One bin of the reliability diagram; bins without an image are left out."""

    low: float
    high: float
    #: Mean probability of the bin's images.
    probability: float
    #: Share of them that are positive.
    positive: Value
    images: int


class Reliability(BaseModel):
    """Whether probabilities mean what they say (Guo et al., "On Calibration of Modern Neural Networks", ICML 2017)."""

    bins: list[CalibrationBin]
    #: Equation 3 there, over the bins.
    expected_calibration_error: Value
    brier: Value
    #: Mean, in nats.
    negative_log_likelihood: float | None


class Mistake(BaseModel):
    """An image on the wrong side of the threshold."""

    image: str
    label: str
    score: float
    #: How far on the wrong side.
    margin: float


class Slice(BaseModel):
    """The measures on the images that have something in common."""

    #: What they are told apart by: "size", "shape", "colour", "light", "source", "sightings", "copies", "labellers".
    by: str
    #: "grey", "folder", "2 to 4".
    name: str
    images: int
    positives: int
    metrics: dict[str, Value]
    confusion: dict[str, int]


class SplitReport(BaseModel):
    """One split: "val" or "test"."""

    images: int
    positives: int
    #: Near-duplicate groups: what the bootstrap draws.
    groups: int
    metrics: dict[str, Value]
    confusion: dict[str, int]
    #: From the highest threshold down, at most 200 points.
    pr_curve: list[CurvePoint] = []
    #: Of classifiers that give probabilities.
    reliability: Reliability | None = None
    slices: list[Slice] = []
    #: Worst first, at most 100 of each; the confusion matrix counts all.
    false_positives: list[Mistake] = []
    false_negatives: list[Mistake] = []
    warnings: list[str] = []


class ModelEvaluation(Record):
    """``models/<name>/<version>/evaluation.json``."""

    model: str
    version: str
    kind: str
    dataset: str
    created: datetime.datetime = Field(default_factory=utc_now)
    threshold: float
    threshold_rule: str
    #: Near-duplicate groups with images in more than one split: 0 where the split is safe.
    groups_parted: int
    splits: dict[str, SplitReport]


def evaluation_file(model: str, version: str) -> str:
    """The key of a model version's evaluation."""
    return model_key(model, version, EVALUATION)
