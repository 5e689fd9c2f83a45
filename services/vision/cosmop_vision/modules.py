"""Networks as torch modules: for training, for export, and for CUDA."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import nn

from cosmop_vision.errors import WeightsFormatError
from cosmop_vision.networks import Network, find_network
from cosmop_vision.settings import VisionSettings
from cosmop_vision.weights import weights_file


class Backbone(nn.Module):
    """A network without its classifier: images in, pooled features and the last feature map out."""

    def __init__(self, network: Network, body: nn.Module) -> None:
        """Joins a network's description and its trunk.

        Args:
            network: what it is.
            body: N x 3 x H x W images to the N x C x h x w feature map.
        """
        super().__init__()
        self.network = network
        self.body = body

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Features of normalised images.

        Args:
            images: N x 3 x H x W, H and W multiples of ``network.stride``.

        Returns:
            The global average of the map (N x C), and the map (N x C x H/stride x W/stride).
        """
        feature_map = self.body(images)
        return feature_map.mean((2, 3)), feature_map


def load_backbone(name: str, settings: VisionSettings | None = None, *, pretrained: bool = True) -> Backbone:
    """A network by name, in evaluation mode, on the CPU.

    Args:
        pretrained: with its published weights; otherwise freshly initialised.

    Raises:
        UnknownNetworkError: no network has this name.
        WeightsUnavailableError: its weights cannot be had.
        WeightsChecksumError: its weights are not those that were published.
    """
    network = find_network(name)
    state = None
    if pretrained:
        state = _state(network, weights_file(network.weights, settings or VisionSettings()))
    try:
        body = _efficientnet_lite(state) if network.family == "efficientnet_lite" else _torchvision(network.name, state)
    except RuntimeError as error:
        raise WeightsFormatError(f"{network.weights.file} does not hold the weights of {name}: {str(error)[:500]}") from error
    return Backbone(network, body).eval()


def _state(network: Network, path: Path) -> dict[str, torch.Tensor]:
    """Plain tensors by name: safetensors, or a file of torch that can hold nothing else."""
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        state: dict[str, torch.Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise WeightsFormatError(f"{path} cannot be read as weights of {network.name} ({str(error)[:300]}): expected safetensors, or plain tensors") from error
    return state


class _EfficientNetLite(nn.Module):
    """The trunk of an EfficientNet-lite: its classifier is left unused."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        # Their padding is fixed for sides that halve evenly five times: right for every multiple of 32.
        self.network = network

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        features: torch.Tensor = self.network.extract_features(images)
        return features


def _efficientnet_lite(state: dict[str, torch.Tensor] | None) -> nn.Module:
    from efficientnet_lite_pytorch import EfficientNet

    network = EfficientNet.from_name("efficientnet-lite0")
    if state is not None:
        network.load_state_dict(state)
    network._fc = nn.Identity()  # noqa: SLF001 - the classifier's 1.3 million weights are not ours to carry
    return _EfficientNetLite(network)


def _torchvision(name: str, state: dict[str, torch.Tensor] | None) -> nn.Module:
    from cosmop_vision.torch_quirks import torchvision

    network = torchvision.models.get_model(name, weights=None)
    if state is not None:
        network.load_state_dict(state)
    if hasattr(network, "features"):  # ConvNeXt, EfficientNet
        features: nn.Module = network.features
        return features
    # ResNet and ResNeXt: all but the average pool and the classifier.
    return nn.Sequential(*list(network.children())[:-2])
