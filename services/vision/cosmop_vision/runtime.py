"""Features of images, fast: ONNX Runtime on the CPU, torch on CUDA.

extractor = Extractor.create("efficientnet_lite0")
features = extractor.features(batch)      # N x 1280

Importing this module imports no torch; neither does running on the CPU once the network's ONNX file is in the cache. Both runtimes
give the same numbers within 1e-4 of the largest feature (tested).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from cosmop_common.errors import InvalidInputError
from numpy.typing import NDArray

from cosmop_vision.errors import DeviceError
from cosmop_vision.export import exported
from cosmop_vision.networks import Network, find_network
from cosmop_vision.settings import VisionSettings

Output = Literal["pooled", "map"]
RuntimeName = Literal["auto", "onnx", "torch"]


class _Engine(Protocol):
    def run(self, images: NDArray[np.float32], outputs: Sequence[str]) -> list[NDArray[np.float32]]: ...


class Extractor:
    """A network that turns images into features. Make it with ``Extractor.create``. Thread-safe."""

    def __init__(self, network: Network, outputs: tuple[Output, ...], runtime: str, engine: _Engine) -> None:
        self.network = network
        self.outputs = outputs
        #: "onnx" or "torch".
        self.runtime = runtime
        self._engine = engine

    @classmethod
    def create(cls, name: str, outputs: tuple[Output, ...] = ("pooled",), runtime: RuntimeName = "auto", settings: VisionSettings | None = None) -> Extractor:
        """Loads a network with its published weights.

        Args:
            name: see ``cosmop_vision.networks``.
            outputs: what ``features`` and ``run`` give: "pooled" (N x C), "map" (N x C x h x w).
            runtime: "auto" is torch where the settings' device is a CUDA one, otherwise ONNX Runtime.

        Raises:
            UnknownNetworkError: no network has this name.
            WeightsUnavailableError: its weights cannot be had.
            DeviceError: CUDA was asked for and is not there.
        """
        settings = settings or VisionSettings()
        network = find_network(name)
        cuda = wants_cuda(settings)
        if runtime == "onnx" or (runtime == "auto" and not cuda):
            from cosmop_vision.onnx_session import OnnxSession

            return cls(network, outputs, "onnx", OnnxSession(exported(name, settings), settings))
        return cls(network, outputs, "torch", _Torch(name, settings, "cuda" if cuda else "cpu"))

    def features(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """The first of ``outputs`` for normalised images (N x 3 x H x W, sides multiples of the network's stride).

        Raises:
            InvalidInputError: another shape.
        """
        return self.run(images)[self.outputs[0]]

    def run(self, images: NDArray[np.float32]) -> dict[Output, NDArray[np.float32]]:
        """All of ``outputs``, by name."""
        stride = self.network.stride
        if images.ndim != 4 or images.shape[1] != 3 or images.shape[2] % stride or images.shape[3] % stride:  # noqa: PLR2004 - N x 3 x H x W
            raise InvalidInputError(f"{self.network.name} takes N x 3 x H x W with sides that are multiples of {stride}, not {images.shape}")
        return dict(zip(self.outputs, self._engine.run(images, self.outputs), strict=True))


def wants_cuda(settings: VisionSettings) -> bool:
    """Whether inference should run on CUDA. Raises ``DeviceError`` where it was asked for and is not there."""
    if settings.device == "cpu" or (settings.device == "auto" and not Path("/dev/nvidiactl").exists()):
        return False
    import torch

    if torch.cuda.is_available():
        return True
    if settings.device == "cuda":
        raise DeviceError("COSMOP_DEVICE=cuda, but torch sees no CUDA device: install a CUDA build of torch and a driver, or set COSMOP_DEVICE=auto")
    return False


class _Torch:
    """Eager torch: the way on CUDA, and the reference that the exported file is tested against."""

    def __init__(self, name: str, settings: VisionSettings, device: str) -> None:
        from cosmop_vision.modules import load_backbone

        self._backbone = load_backbone(name, settings).to(device)
        self._device = device

    def run(self, images: NDArray[np.float32], outputs: Sequence[str]) -> list[NDArray[np.float32]]:
        import torch

        with torch.inference_mode():
            pooled, feature_map = self._backbone(torch.from_numpy(np.ascontiguousarray(images, np.float32)).to(self._device))
        by_name: dict[str, Any] = {"pooled": pooled, "map": feature_map}
        return [by_name[name].float().cpu().numpy() for name in outputs]
