"""A network in whole numbers: weights as int8, one scale for each channel; activations as uint8, their ranges seen on training images.

``python -m cosmop_classifier.quantise NETWORK.onnx CALIBRATION.npy OUT.onnx`` is how the serving process calls it: in a child, because it
takes half a minute of CPU and a few hundred megabytes. Scheme: Jacob et al., "Quantization and Training of Neural Networks for Efficient
Integer-Arithmetic-Only Inference", CVPR 2018; per channel as Krishnamoorthi, "Quantizing deep convolutional networks", 2018, section 3.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from cosmop_vision.errors import ExportError
from numpy.typing import NDArray

Array = NDArray[np.float32]
_BATCH = 4


async def quantised(network: bytes, calibration: Array) -> bytes:
    """The network in whole numbers, made by a child process that yields to all others.

    Args:
        network: an ONNX file with one input, ``images``.
        calibration: preprocessed images (n, 3, s, s) like those that it will see.

    Raises:
        ExportError: ONNX Runtime could not do it.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source, target, images = folder / "network.onnx", folder / "int8.onnx", folder / "calibration.npy"
        await asyncio.to_thread(source.write_bytes, network)
        await asyncio.to_thread(np.save, images, calibration)
        command = ("nice", "-n", "10", sys.executable, "-m", "cosmop_classifier.quantise", str(source), str(images), str(target))
        child = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE)
        try:
            _, said = await child.communicate()
        except asyncio.CancelledError:
            child.kill()
            raise
        if child.returncode != 0:
            raise ExportError(f"the network could not be quantised; ONNX Runtime said: {said.decode(errors='replace')[-1000:]}")
        return await asyncio.to_thread(target.read_bytes)


def quantise(source: Path, calibration: Array, target: Path) -> None:
    """Writes ``source`` in whole numbers to ``target``."""
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self._batches = iter([calibration[start : start + _BATCH] for start in range(0, len(calibration), _BATCH)])

        def get_next(self) -> dict[str, Array] | None:
            batch = next(self._batches, None)
            return None if batch is None else {"images": batch}

    folded = target.with_suffix(".folded.onnx")
    _fold(source, folded, calibration.shape[-1])
    how: dict[str, Any] = {"quant_format": QuantFormat.QDQ, "activation_type": QuantType.QUInt8, "weight_type": QuantType.QInt8, "per_channel": True}
    quantize_static(str(folded), str(target), Reader(), **how)


def _fold(source: Path, target: Path, size: int) -> None:
    """Fixes the input's size, so that padding and shapes become constants, and joins activations to their convolutions."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(target)
    for axis in ("height", "width"):
        options.add_free_dimension_override_by_name(axis, size)
    onnxruntime.InferenceSession(str(source), options, providers=["CPUExecutionProvider"])


if __name__ == "__main__":
    quantise(Path(sys.argv[1]), np.load(sys.argv[2]), Path(sys.argv[3]))
