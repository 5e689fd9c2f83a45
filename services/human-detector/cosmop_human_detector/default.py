"""What screens where no model is active, by the setting ``COSMOP_HUMAN_DETECTOR``."""

from __future__ import annotations

import logging
from pathlib import Path

from cosmop_common.errors import InvalidInputError
from cosmop_common.records import ModelCard
from cosmop_vision.errors import WeightsUnavailableError
from cosmop_vision.settings import VisionSettings
from cosmop_vision.weights import weights_file

from cosmop_human_detector import nanodet
from cosmop_human_detector.registry import onnx_version, shipped
from cosmop_human_detector.settings import Settings

log = logging.getLogger(__name__)

#: The COCO detector that ``auto`` asks for: one stage, so that it runs without torchvision's compiled operators.
AUTO = "retinanet_resnet50_fpn_v2"


def default_model(settings: Settings, vision: VisionSettings | None = None) -> tuple[ModelCard, dict[str, bytes]]:
    """The card and the files of the default model; may download weights.

    Raises:
        InvalidInputError: the setting names nothing that we know, or a file that cannot be read.
        ModelFileError: the file is not the one that the setting's sha256 tells.
    """
    backend, _, what = settings.human_detector.partition(":")
    if settings.human_detector == "head":
        return shipped()
    if backend == "onnx" and what:
        return onnx_version(Path(what), settings.human_detector_sha256, nanodet.THRESHOLD)
    if backend == "torchvision" and what:
        from cosmop_human_detector.coco import coco_version

        return coco_version(what)
    if backend == "auto":
        return _coco_or_head(what or AUTO, vision or VisionSettings())
    raise InvalidInputError(f"COSMOP_HUMAN_DETECTOR={settings.human_detector!r} is none of head, auto, onnx:<path>, torchvision:<name>")


def _coco_or_head(name: str, vision: VisionSettings) -> tuple[ModelCard, dict[str, bytes]]:
    """A COCO detector where its weights can be had, otherwise the shipped head; the log says which, and why."""
    from cosmop_human_detector.coco import coco_version, published

    try:
        path = weights_file(published(name), vision)
    except WeightsUnavailableError as error:
        log.warning("the shipped head screens: the weights of torchvision's %s cannot be had (%s)", name, error)
        return shipped()
    log.info(
        "torchvision's %s screens, a COCO detector: more accurate than the shipped head, and many times slower on a CPU", name, extra={"weights": str(path)}
    )
    return coco_version(name)
