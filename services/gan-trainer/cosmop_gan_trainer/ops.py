"""Layers with an equalised learning rate, and convolution modulated by a style.

Equalised learning rate (Karras et al. 2018, "Progressive Growing of GANs", sec. 4.1): weights are drawn from N(0, 1)
and scaled by the He constant when used, so that Adam's step is as large for each.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from cosmop_gan_trainer import filters

SLOPE = 0.2
"""Of the leaky ReLU (StyleGAN2, app. B)."""
GAIN = math.sqrt(2)
"""Keeps the variance after a ReLU (He et al. 2015)."""
CLAMP = 256.0
"""Half-precision activations are kept within +-256 (ADA, app. C)."""


class HalfPrecision(NamedTuple):
    """How the upper blocks of a network compute where they do not in full precision. A way of running, not of being: not part of a snapshot."""

    dtype: torch.dtype
    memory: torch.memory_format = torch.preserve_format


def activate(x: Tensor, bias: Tensor, gain: float = 1.0, clamp: float | None = None) -> Tensor:
    """Adds the bias per channel, applies the leaky ReLU with gain sqrt(2) * ``gain``, then clamps."""
    x = x + bias.to(x.dtype).reshape(1, -1, *[1] * (x.ndim - 2))
    x = F.leaky_relu(x, SLOPE) * (GAIN * gain)
    return x if clamp is None else x.clamp(-clamp * gain, clamp * gain)


class EqualLinear(nn.Module):
    """Fully connected: [n, inputs] -> [n, outputs]."""

    def __init__(self, inputs: int, outputs: int, *, activation: bool = False, bias: float = 0.0, lr_multiplier: float = 1.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs) / lr_multiplier)
        self.bias = nn.Parameter(torch.full([outputs], bias / lr_multiplier))
        self.activation = activation
        self.weight_gain = lr_multiplier / math.sqrt(inputs)
        self.bias_gain = lr_multiplier

    def forward(self, x: Tensor) -> Tensor:
        """Applies the layer."""
        weight = self.weight * self.weight_gain
        bias = self.bias * self.bias_gain if self.bias_gain != 1 else self.bias
        return activate(x @ weight.t(), bias) if self.activation else F.linear(x, weight, bias)


class EqualConv2d(nn.Module):
    """Convolution that keeps the size, or halves it after low-pass filtering: [n, i, h, w] -> [n, o, h, w] or [n, o, h/2, w/2]."""

    def __init__(self, inputs: int, outputs: int, size: int, *, activation: bool = True, bias: bool = True, down: bool = False) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs, size, size))
        self.bias = nn.Parameter(torch.zeros(outputs)) if bias else None
        self.weight_gain = 1 / math.sqrt(inputs * size * size)
        self.size, self.activation, self.down = size, activation, down
        self.register_buffer("fir", filters.kernel() if down else None, persistent=False)

    def forward(self, x: Tensor, gain: float = 1.0, clamp: float | None = None) -> Tensor:
        """Applies the layer; ``gain`` scales its output."""
        weight = (self.weight * self.weight_gain).to(x.dtype)
        half = self.size // 2
        if self.down:
            assert isinstance(self.fir, Tensor)
            # Before a larger kernel the filter's zeros and the convolution's are one pass of padding.
            x = filters.fir(x, self.fir, (half + 1, half + 1)) if half else filters.downsample(x, self.fir)
            x = F.conv2d(x, weight, stride=2 if half else 1)
        else:
            x = F.conv2d(x, weight, padding=half)
        if self.activation:
            assert self.bias is not None
            return activate(x, self.bias, gain, clamp)
        if self.bias is not None:
            x = x + self.bias.to(x.dtype).reshape(1, -1, 1, 1)
        return x * gain if gain != 1 else x


def modulated_conv2d(x: Tensor, weight: Tensor, styles: Tensor, *, demodulate: bool = True, fir: Tensor | None = None) -> Tensor:
    """Convolution whose input channels are scaled by each image's style (StyleGAN2, sec. 2.2).

    Scaling the input by the style and the output by the demodulation is the same as scaling the weights for each image
    (they commute with a convolution), and lets one convolution serve the whole batch: on CPU faster than one group an
    image at all sizes but the largest.

    Args:
        x: [n, i, h, w].
        weight: [o, i, k, k].
        styles: [n, i].
        demodulate: divides by the expected standard deviation, rsqrt(sum((w s)^2) + 1e-8).
        fir: doubles the size: transposed convolution, then this low-pass filter.

    Returns:
        [n, o, h, w], or [n, o, 2h, 2w].
    """
    half = weight.shape[-1] // 2
    scaled = x * styles.to(x.dtype)[:, :, None, None]
    if fir is None:
        y = F.conv2d(scaled, weight.to(x.dtype), padding=half)
    else:
        y = F.conv_transpose2d(scaled, weight.to(x.dtype).transpose(0, 1), stride=2)
        y = filters.fir(y, fir, (1, 1), gain=4.0)
    if demodulate:
        variance = styles.square() @ weight.square().sum((2, 3)).t()
        y = y * (variance + 1e-8).rsqrt().to(y.dtype)[:, :, None, None]
    return y
