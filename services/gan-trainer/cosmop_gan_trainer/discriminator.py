"""The discriminator: residual blocks down to 4x4, minibatch standard deviation, two fully connected layers (StyleGAN2, fig. 7)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from cosmop_gan_trainer.config import NetworkConfig
from cosmop_gan_trainer.generator import Mapping
from cosmop_gan_trainer.ops import CLAMP, EqualConv2d, EqualLinear, HalfPrecision

LABEL_LAYERS = 8
"""Of the mapping of labels in a conditional discriminator (ADA, app. C)."""


class ResidualBlock(nn.Module):
    """[n, i, r, r] -> [n, o, r/2, r/2]: two 3x3 convolutions beside a 1x1 one, each branch times sqrt(1/2) (StyleGAN2, sec. 4.1)."""

    def __init__(self, config: NetworkConfig, resolution: int) -> None:
        super().__init__()
        inputs, outputs = config.channels(resolution), config.channels(resolution // 2)
        self.conv = EqualConv2d(inputs, inputs, 3)
        self.down = EqualConv2d(inputs, outputs, 3, down=True)
        self.skip = EqualConv2d(inputs, outputs, 1, activation=False, bias=False, down=True)
        self.in_half = config.half(resolution)

    def forward(self, x: Tensor, clamp: float | None) -> Tensor:
        """Applies the block."""
        gain = math.sqrt(0.5)
        skip: Tensor = self.skip(x, gain=gain)
        y: Tensor = self.down(self.conv(x, clamp=clamp), gain=gain, clamp=clamp)
        return y + skip


def minibatch_deviation(x: Tensor, group: int) -> Tensor:
    """Appends one channel: the mean standard deviation over groups of images (Karras et al. 2018, sec. 3).

    Args:
        x: [n, c, h, w]; n a multiple of ``group``, or smaller. Images k, k + n/group, ... form a group.
    """
    n, _, h, w = x.shape
    group = min(group, n)
    y = x.reshape(group, n // group, -1)
    y = (y - y.mean(0)).square().mean(0)
    y = (y + 1e-8).sqrt().mean(1)
    channel = y.repeat(group).reshape(n, 1, 1, 1).expand(-1, 1, h, w)
    return torch.cat([x, channel.to(x.dtype)], 1)


class Discriminator(nn.Module):
    """Images [n, 3, r, r] in -1 to 1 -> logits [n]; high means real."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config
        top = config.channels(4)
        self.from_rgb = EqualConv2d(3, config.channels(config.resolution), 1)
        self.blocks = nn.ModuleList(ResidualBlock(config, r) for r in reversed(config.block_resolutions) if r > 4)  # noqa: PLR2004
        self.conv = EqualConv2d(top + 1, top, 3)
        self.hidden = EqualLinear(top * 16, top, activation=True)
        labels = len(config.classes)
        self.mapping = Mapping(0, labels, top, LABEL_LAYERS, track_average=False) if labels else None
        self.out = EqualLinear(top, top if labels else 1)
        self.half_precision: HalfPrecision | None = None

    def forward(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        """Judges images; a conditional one projects its features on the mapped label (Miyato and Koyama 2018)."""
        x = images
        for index, block in enumerate(self.blocks):
            half = self.half_precision if block.in_half else None
            clamp = CLAMP if half else None
            x = x.to(half.dtype, memory_format=half.memory) if half else x.to(images.dtype)
            if index == 0:
                x = self.from_rgb(x, clamp=clamp)
            x = block(x, clamp)
        x = x.to(images.dtype)
        x = self.conv(minibatch_deviation(x, self.config.minibatch_group))
        x = self.out(self.hidden(x.flatten(1)))
        logits: Tensor = x.squeeze(1) if self.mapping is None else (x * self.mapping(None, labels)).sum(1) / math.sqrt(x.shape[1])
        return logits
