"""A linear head over windows of a network's feature map, and its file.

Every cell of the map gets a logit; logits are averaged over windows, so that a small person fills a window of his own instead
of vanishing in the average of the whole image; the windows' logits are joined by a soft maximum

    z = tau * log(mean(exp(z_w / tau)))

(log-sum-exp pooling: Pinheiro and Collobert, "From image-level to pixel-level labeling with convolutional networks", CVPR 2015,
section 3.2). tau -> 0 is the maximum, tau -> infinity the mean. Averaging commutes with the linear map: at serving only the
logits are averaged, not the 1,280 features.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Literal

import numpy as np
import safetensors
import safetensors.numpy
from numpy.typing import NDArray

from cosmop_human_detector.errors import ModelFileError

_KIND = "window-head/1"


@dataclass(frozen=True)
class HeadShape:
    """Everything of a head but its weights: enough to make the features that it was fitted on."""

    #: The network by name (``cosmop_vision.networks``).
    network: str = "efficientnet_lite0"
    #: Side of the input in pixels, and how an image is fitted into it (``cosmop_vision.preprocess``).
    size: int = 320
    fit: Literal["stretch", "letterbox"] = "stretch"
    #: Side of a window in cells of the feature map; windows step by half of it.
    window: int = 4
    #: Temperature of the soft maximum over windows, in logits.
    tau: float = 0.5

    @property
    def step(self) -> int:
        """Cells from one window to the next."""
        return max(1, self.window // 2)


@dataclass(frozen=True)
class Head:
    """A fitted head."""

    shape: HeadShape
    #: Features that the network gives.
    weight: NDArray[np.float32]
    bias: float

    def scores(self, maps: NDArray[np.float32]) -> NDArray[np.float64]:
        """The probability of a person for each of N x C x h x w feature maps."""
        cells = np.einsum("nchw,c->nhw", maps, self.weight, optimize=True)[:, None] + self.bias
        return probability(soft_maximum(windows(cells, self.shape)[..., 0], self.shape.tau))

    def to_bytes(self) -> bytes:
        """The head as safetensors; the same head gives the same bytes."""
        tensors = {"weight": np.ascontiguousarray(self.weight, np.float32), "bias": np.asarray([self.bias], np.float32)}
        # One key: safetensors writes several in no fixed order.
        return safetensors.numpy.save(tensors, {_KIND: json.dumps(asdict(self.shape), sort_keys=True)})

    @classmethod
    def from_bytes(cls, data: bytes) -> Head:
        """Reads a head. Raises ``ModelFileError`` where the file is none."""
        try:
            tensors = safetensors.numpy.load(data)
            length = int.from_bytes(data[:8], "little")
            metadata = json.loads(data[8 : 8 + length])["__metadata__"]
            shape = HeadShape(**json.loads(metadata[_KIND]))
            weight, bias = tensors["weight"], float(tensors["bias"][0])
        except (safetensors.SafetensorError, KeyError, TypeError, ValueError, IndexError) as error:
            raise ModelFileError(f"the file holds no head of a human detector ({error}): activate another version, or train one") from error
        if weight.ndim != 1 or not (np.isfinite(weight).all() and np.isfinite(bias)):
            raise ModelFileError(f"the head's weights are not one finite number a feature but {weight.shape}: activate another version, or train one")
        return cls(shape, weight, bias)


def windows(maps: NDArray[np.float32], shape: HeadShape) -> NDArray[np.float32]:
    """Means over the windows of N x C x h x w maps: N x windows x C. A window larger than the map is the whole map."""
    side_y, side_x = min(shape.window, maps.shape[2]), min(shape.window, maps.shape[3])
    views = np.lib.stride_tricks.sliding_window_view(maps, (side_y, side_x), axis=(2, 3))[:, :, :: shape.step, :: shape.step]
    means = views.mean(axis=(4, 5), dtype=np.float32)
    return np.ascontiguousarray(means.reshape(*means.shape[:2], -1).transpose(0, 2, 1))


def soft_maximum(logits: NDArray[np.float32], tau: float) -> NDArray[np.float64]:
    """Log-sum-exp pooling of N x windows logits: N."""
    scaled = logits.astype(np.float64) / tau
    peak = scaled.max(axis=1, keepdims=True)
    pooled: NDArray[np.float64] = tau * (np.log(np.exp(scaled - peak).mean(axis=1)) + peak[:, 0])
    return pooled


def probability(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """The logistic function, without overflow."""
    return 0.5 * (1 + np.tanh(logits / 2))
