"""The one interface of everything that says whether an image shows people, and its smallest implementation: a head on features."""

from __future__ import annotations

import io
from typing import Protocol

import numpy as np
from cosmop_vision.preprocess import Preprocessing
from cosmop_vision.runtime import Extractor
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from cosmop_human_detector.errors import SmokeTestError
from cosmop_human_detector.heads import Head


class Detector(Protocol):
    """Scores images for people. Both methods are called from several threads."""

    def prepare(self, data: bytes) -> NDArray[np.float32]:
        """One encoded image as the array that ``scores`` takes. Raises ``RefusedImageError``."""
        ...

    def scores(self, batch: NDArray[np.float32]) -> NDArray[np.float64]:
        """The score in [0, 1] of each of a stack of prepared images: higher is more surely a person."""
        ...


class HeadDetector:
    """A trained head on an ImageNet network's features."""

    def __init__(self, head: Head, extractor: Extractor) -> None:
        """Joins a head and its network, which gives feature maps (``outputs=("map",)``)."""
        self.head = head
        self._extractor = extractor
        self._preprocessing = Preprocessing.of(self._extractor.network, size=head.shape.size, fit=head.shape.fit)

    def prepare(self, data: bytes) -> NDArray[np.float32]:
        """See ``Detector``: 3 x size x size."""
        return self._preprocessing.array_of_bytes(data)

    def scores(self, batch: NDArray[np.float32]) -> NDArray[np.float64]:
        """See ``Detector``."""
        return self.head.scores(self._extractor.features(batch))


def smoke_test(detector: Detector) -> None:
    """Scores two drawings. Raises ``SmokeTestError`` where that fails, or the scores are no probabilities."""
    arrays = []
    for colour in ("navy", "orange"):
        image = Image.new("RGB", (160, 120), "white")
        ImageDraw.Draw(image).ellipse((40, 20, 110, 100), fill=colour)
        sink = io.BytesIO()
        image.save(sink, "PNG")
        arrays.append(detector.prepare(sink.getvalue()))
    try:
        scores = detector.scores(np.stack(arrays))
    except Exception as error:
        raise SmokeTestError(f"the model does not score an image ({error}): its files do not fit each other; activate another version, or train one") from error
    if scores.shape != (2,) or not np.isfinite(scores).all() or scores.min() < 0 or scores.max() > 1:
        raise SmokeTestError(f"the model's scores of two drawings are {scores}, not two probabilities: it is not activated; train it anew")
