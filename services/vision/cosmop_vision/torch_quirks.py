"""The one place where torchvision is imported: ``from cosmop_vision.torch_quirks import torchvision``.

torchvision registers shape functions for its compiled operators at import. A build whose compiled operators do not match the
installed torch (torchvision for CUDA beside a CPU build of torch) lacks their schemas and fails there with "operator
torchvision::nms does not exist", although its models in Python work. Where they are missing we declare the two schemas; calling
one of those operators still fails, clearly, because it has no kernel.
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


def import_torchvision() -> tuple[ModuleType, bool]:
    """torchvision, and whether its compiled operators work."""
    _load_compiled_operators()
    missing = [name for name in _SCHEMAS if not hasattr(torch.ops.torchvision, name)]
    for name in missing:
        torch.library.define(f"torchvision::{name}", _SCHEMAS[name])
    import torchvision

    return torchvision, "nms" not in missing


torchvision: Any
torchvision, HAS_COMPILED_OPERATORS = import_torchvision()
