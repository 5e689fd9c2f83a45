"""torchvision's COCO detectors: the score of an image is that of its most certain person. Needs torch, and weights by download.

They find small people far better than a head on ImageNet features, at several times its cost. Those that pool regions (Faster R-CNN)
need torchvision's compiled operators; the one-stage ones run without.
"""

from __future__ import annotations

import numpy as np
import torch
from cosmop_common.errors import InvalidInputError
from cosmop_common.images import decode_rgb
from cosmop_common.records import ModelCard
from cosmop_vision.networks import Weights
from cosmop_vision.preprocess import Preprocessing
from cosmop_vision.runtime import wants_cuda
from cosmop_vision.settings import VisionSettings
from cosmop_vision.torch_quirks import torchvision
from cosmop_vision.weights import weights_file
from numpy.typing import NDArray

from cosmop_human_detector.registry import GENERAL, KIND

THRESHOLD = 0.5
_PERSON = 1
#: Side in pixels of the square that images are letterboxed into; the detectors resize on their own.
_SIDE = 640


def published(name: str) -> Weights:
    """The published COCO weights of a detector. Raises ``InvalidInputError`` where torchvision has none of this name."""
    known = torchvision.models.list_models(module=torchvision.models.detection)
    if name not in known:
        raise InvalidInputError(f"torchvision has no detector {name!r}: known are {', '.join(known)}")
    url: str = torchvision.models.get_model_weights(name).DEFAULT.url
    file = url.rpartition("/")[2]
    return Weights(file, file.removesuffix(".pth").rpartition("-")[2], url=url)


def coco_version(name: str) -> tuple[ModelCard, dict[str, bytes]]:
    """A COCO detector as a model version; its weights are not in the object store but fetched where it runs."""
    weights = published(name)
    card = ModelCard(
        name=GENERAL,
        version=f"{name}-{weights.sha256}",
        kind=KIND,
        network=name,
        method="highest score of the class person",
        dataset="COCO 2017, as published",
        classes=["people", "none"],
        positive="people",
        threshold=THRESHOLD,
        threshold_rule="the detectors' usual operating point, not tuned",
        details={"backend": "torchvision", "band": [THRESHOLD, THRESHOLD], "fitted_on": []},
    )
    return card, {}


class CocoDetector:
    """The person score of a torchvision detector. Implements ``Detector``."""

    def __init__(self, name: str, settings: VisionSettings | None = None, *, pretrained: bool = True) -> None:
        """Loads a detector by torchvision's name. Raises ``WeightsUnavailableError``, ``WeightsChecksumError``."""
        settings = settings or VisionSettings()
        state = torch.load(weights_file(published(name), settings), map_location="cpu", weights_only=True) if pretrained else None
        self._device = "cuda" if wants_cuda(settings) else "cpu"
        network = torchvision.models.get_model(name, weights=None, weights_backbone=None)
        if state is not None:
            network.load_state_dict(state)
        self._network = network.eval().to(self._device)
        # The detectors normalise by themselves: they take RGB in [0, 1].
        self._rule = Preprocessing(_SIDE, _SIDE, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0), fit="letterbox")

    def prepare(self, data: bytes) -> NDArray[np.float32]:
        """See ``Detector``: 3 x 640 x 640, RGB in [0, 1]."""
        return self._rule.array(decode_rgb(data, at_least=_SIDE))

    def scores(self, batch: NDArray[np.float32]) -> NDArray[np.float64]:
        """See ``Detector``."""
        with torch.inference_mode():
            found = self._network(list(torch.from_numpy(batch).to(self._device)))
        return np.array([_best(one) for one in found], np.float64)


def _best(found: dict[str, torch.Tensor]) -> float:
    people = found["scores"][found["labels"] == _PERSON]
    return float(people.max()) if len(people) else 0.0
