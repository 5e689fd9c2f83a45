"""A model version ready to answer: its engine, its head, its calibration and its threshold."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from cosmop_common.errors import NotReadyError
from cosmop_common.records import ModelCard
from cosmop_vision.preprocess import Preprocessing
from numpy.typing import NDArray
from scipy.special import expit

from cosmop_classifier.engine import Engine, Engines, Question
from cosmop_classifier.heads import Features, Head, read_head
from cosmop_classifier.registry import BINARY, ModelFiles

Array = NDArray[np.float32]

#: Images of the smoke test.
_SMOKE_IMAGES = 2
_SMOKE_TOLERANCE = 2e-3


class SmokeTestError(NotReadyError):
    """A model does not say what it said when it was registered. Status: FAILED_PRECONDITION."""


@dataclass(frozen=True)
class Verdict:
    """What a model says of one image."""

    positive: bool
    #: Calibrated probability of the positive class (binary), or the one-class score.
    score: float
    #: A person should look.
    uncertain: bool


@dataclass(frozen=True)
class ServedModel:
    """A model version in memory. Never changes: another version is another object."""

    card: ModelCard
    engine: Engine
    head: Head
    temperature: float
    #: Scores inside are uncertain.
    band: tuple[float, float]

    @property
    def question(self) -> Question:
        """What an engine is asked for this model."""
        return Question(self.card.name, self.head)

    def verdict(self, raw: float) -> Verdict:
        """The verdict on one image, from what the head says of it."""
        score = float(to_scores(self.card.kind, np.asarray([raw], np.float64), self.temperature)[0])
        low, high = self.band
        return Verdict(score >= self.card.threshold, score, low < score < high)

    def scores(self, features: Features) -> NDArray[np.float64]:
        """Probabilities (binary) or scores (one-class): shape (n,)."""
        return to_scores(self.card.kind, self.head.score(features), self.temperature)

    def label(self, positive: bool) -> str:
        """The class's name. Of several classes that are not the positive one, none can be told: ``not-<positive>``."""
        if positive:
            return self.card.positive
        others = [c for c in self.card.classes if c != self.card.positive]
        return others[0] if len(others) == 1 else f"not-{self.card.positive}"


def serve(files: ModelFiles, engines: Engines) -> ServedModel:
    """Makes a model version ready, and proves that it is: it must say of a fixed input what its card says it said.

    Blocking.

    Raises:
        SmokeTestError: it says something else.
        HeadError: its head cannot be read.
        ExportError: its network cannot be read.
    """
    card, details = files.card, files.card.details
    engine = engines.get(files.network, preprocessing_of(details["preprocessing"]))
    head = read_head(files.head, str(details["head"]))
    low, high = details["band"]
    model = ServedModel(card, engine, head, float(details.get("temperature", 1.0)), (float(low), float(high)))
    expected = np.asarray(details["smoke"], np.float64)
    found = model.scores(smoke_features(engine, head))
    if not np.allclose(found, expected, rtol=_SMOKE_TOLERANCE, atol=_SMOKE_TOLERANCE):
        raise SmokeTestError(f"{card.name}/{card.version} says {found.tolist()} where its card expects {expected.tolist()}: train it again")
    return model


def to_scores(kind: str, raw: NDArray[np.float64], temperature: float) -> NDArray[np.float64]:
    """From what a head says to what is compared with the threshold: calibrated probabilities (binary), scores as they are (one-class)."""
    return np.asarray(expit(raw / temperature)) if kind == BINARY else raw


def smoke_pixels(size: int) -> Array:
    """A fixed input that is like no photo: noise, the same on every machine. Shape (2, 3, size, size)."""
    return np.random.default_rng(0).standard_normal((_SMOKE_IMAGES, 3, size, size)).astype(np.float32)


def smoke_features(engine: Engine, head: Head) -> Features:
    """Features of ``smoke_pixels``."""
    return engine.run(smoke_pixels(engine.preprocessing.size), with_map=head.needs_map)


def preprocessing_details(preprocessing: Preprocessing) -> dict[str, Any]:
    """How a card keeps it."""
    return {name: getattr(preprocessing, name) for name in ("size", "resize", "mean", "std", "interpolation", "fit")}


def preprocessing_of(details: dict[str, Any]) -> Preprocessing:
    """The inverse of ``preprocessing_details``."""
    values: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in details.items()}
    return Preprocessing(**values)
