"""ONNX Runtime with the number of threads that the settings allow; on CUDA where its CUDA build and a device are there."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from cosmop_vision.errors import ExportError
from cosmop_vision.settings import VisionSettings


class OnnxSession:
    """One ONNX file, ready to run. Thread-safe."""

    def __init__(self, path: Path, settings: VisionSettings | None = None) -> None:
        """Raises ``ExportError`` where the file is no ONNX network that runs here."""
        settings = settings or VisionSettings()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = settings.inference_threads
        options.log_severity_level = 3
        try:
            self._session = onnxruntime.InferenceSession(str(path), options, providers=providers(settings, onnxruntime.get_available_providers()))
        except Exception as error:
            raise ExportError(f"{path} does not load in ONNX Runtime ({error}): delete it, it is made again where it was ours") from error
        self.input_name: str = self._session.get_inputs()[0].name
        self.input_shape: list[int | str | None] = self._session.get_inputs()[0].shape
        self.output_shapes: dict[str, list[int | str | None]] = {output.name: output.shape for output in self._session.get_outputs()}

    def run(self, images: NDArray[np.float32], outputs: Sequence[str] | None = None) -> list[NDArray[np.float32]]:
        """The named outputs (default: all) for N x 3 x H x W images."""
        results: list[NDArray[np.float32]] = self._session.run(list(outputs) if outputs else None, {self.input_name: np.ascontiguousarray(images, np.float32)})
        return results


def providers(settings: VisionSettings, available: Sequence[str]) -> list[str | tuple[str, dict[str, str]]]:
    """What runs a network, best first; ONNX Runtime falls back by itself where the first finds no device.

    TF32 is off: a model must say on every machine what its card says that it said.
    """
    if settings.device != "cpu" and "CUDAExecutionProvider" in available:
        return [("CUDAExecutionProvider", {"use_tf32": "0"}), "CPUExecutionProvider"]
    return ["CPUExecutionProvider"]
