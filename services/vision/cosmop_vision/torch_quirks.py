"""The one place where torchvision is imported: ``from cosmop_vision.torch_quirks import torchvision``.

torchvision registers shape functions for its compiled operators at import. A build whose compiled operators do not match the
installed torch (torchvision for CUDA beside a CPU build of torch) lacks their schemas and fails there with "operator
torchvision::nms does not exist", although its models in Python work. Where they are missing we declare the two schemas, and put a
``nms`` in Python in place, which is all that the one-stage detectors need. Other compiled operators stay missing and fail clearly.
"""

from __future__ import annotations

import importlib.machinery
import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

_SCHEMAS = {
    "nms": "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms": "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
}


def _load_compiled_operators() -> None:
    """Loads torchvision's compiled operators where they fit the installed torch: they define the schemas themselves."""
    package = importlib.util.find_spec("torchvision")
    if package is None or package.origin is None:
        return
    for suffix in importlib.machinery.EXTENSION_SUFFIXES:
        library = Path(package.origin).parent / f"_C{suffix}"
        if library.exists():
            try:
                torch.ops.load_library(str(library))  # type: ignore[no-untyped-call]
            except (OSError, RuntimeError):
                continue
            return


def non_maximum_suppression(boxes: torch.Tensor, scores: torch.Tensor, iou_threshold: float) -> torch.Tensor:
    """Greedy non-maximum suppression, as ``torchvision.ops.nms``.

    Args:
        boxes: N x 4 corners (x1, y1, x2, y2).
        scores: N.
        iou_threshold: a box that overlaps a better kept one by more than this intersection over union is dropped.

    Returns:
        Indices of the boxes kept, best score first.
    """
    order = torch.argsort(scores, descending=True, stable=True)
    boxes = boxes[order]
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(1)
    alive = torch.ones(len(boxes), dtype=torch.bool, device=boxes.device)
    for i in range(len(boxes)):
        if alive[i]:
            corners = torch.minimum(boxes[i, 2:], boxes[i + 1 :, 2:]) - torch.maximum(boxes[i, :2], boxes[i + 1 :, :2])
            common = corners.clamp(min=0).prod(1)
            alive[i + 1 :] &= common / (areas[i] + areas[i + 1 :] - common) <= iou_threshold
    return order[alive]


def import_torchvision() -> tuple[ModuleType, bool]:
    """torchvision, and whether its compiled operators work."""
    _load_compiled_operators()
    missing = [name for name in _SCHEMAS if not hasattr(torch.ops.torchvision, name)]
    for name in missing:
        torch.library.define(f"torchvision::{name}", _SCHEMAS[name])
    import torchvision

    if "nms" in missing:
        # Its callers look it up in this module when they run.
        torchvision.ops.boxes.nms = torchvision.ops.nms = non_maximum_suppression
    return torchvision, "nms" not in missing


torchvision: Any
torchvision, HAS_COMPILED_OPERATORS = import_torchvision()
