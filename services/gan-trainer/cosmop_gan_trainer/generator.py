"""The generator: a mapping network from z to w, and a synthesis network from w to an image (StyleGAN2, fig. 2 and 7)."""

from __future__ import annotations

import itertools
import math

import torch
from torch import Tensor, nn

from cosmop_gan_trainer import filters
from cosmop_gan_trainer.config import NetworkConfig
from cosmop_gan_trainer.ops import CLAMP, EqualLinear, HalfPrecision, activate, modulated_conv2d

W_AVERAGE_DECAY = 0.995
"""Of the running mean of w, for truncation (StyleGAN, sec. B)."""
MAPPING_LR = 0.01
"""The mapping network learns a hundred times slower (StyleGAN, app. C)."""


def unit_moment(x: Tensor) -> Tensor:
    """Scales each row to unit second moment."""
    return x * (x.square().mean(1, keepdim=True) + 1e-8).rsqrt()


class Mapping(nn.Module):
    """z [n, z_dim] and one-hot labels [n, classes] -> w [n, width]. With ``z_dim`` 0 it maps labels alone (the discriminator's)."""

    def __init__(self, z_dim: int, classes: int, width: int, layers: int, *, track_average: bool = True) -> None:
        super().__init__()
        self.z_dim = z_dim
        self.embed = EqualLinear(classes, width) if classes else None
        sizes = [z_dim + (width if classes else 0), *[width] * layers]
        self.layers = nn.ModuleList(EqualLinear(a, b, activation=True, lr_multiplier=MAPPING_LR) for a, b in itertools.pairwise(sizes))
        self.register_buffer("w_average", torch.zeros(width) if track_average else None)

    def forward(self, z: Tensor | None, labels: Tensor | None) -> Tensor:
        """Maps."""
        parts = [] if z is None else [unit_moment(z)]
        if self.embed is not None:
            assert labels is not None
            parts.append(unit_moment(self.embed(labels)))
        x = torch.cat(parts, 1)
        for layer in self.layers:
            x = layer(x)
        return x

    def move_average(self, mean: Tensor) -> None:
        """Moves the running mean of w towards that of one batch, [width]."""
        assert isinstance(self.w_average, Tensor)
        self.w_average.copy_(mean.lerp(self.w_average, W_AVERAGE_DECAY))


class StyledConv(nn.Module):
    """3x3 convolution modulated by a style, with noise: [n, i, h, w], [n, w_dim] -> [n, o, h', w']."""

    def __init__(self, inputs: int, outputs: int, w_dim: int, resolution: int, *, up: bool) -> None:
        super().__init__()
        # A style starts at 1: its affine map's bias (StyleGAN2, app. B).
        self.affine = EqualLinear(w_dim, inputs, bias=1.0)
        self.weight = nn.Parameter(torch.randn(outputs, inputs, 3, 3))
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.noise_strength = nn.Parameter(torch.zeros([]))
        self.weight_gain = 1 / math.sqrt(inputs * 9)
        self.register_buffer("noise", torch.randn(resolution, resolution))
        self.register_buffer("fir", filters.kernel() if up else None, persistent=False)

    def forward(self, x: Tensor, w: Tensor, *, fixed_noise: bool, clamp: float | None) -> Tensor:
        """Applies the layer; noise is drawn anew unless ``fixed_noise``."""
        fir = self.fir if isinstance(self.fir, Tensor) else None
        x = modulated_conv2d(x, self.weight * self.weight_gain, self.affine(w), fir=fir)
        assert isinstance(self.noise, Tensor)
        noise = self.noise if fixed_noise else torch.randn(x.shape[0], 1, *x.shape[2:], device=x.device, dtype=self.noise.dtype)
        return activate(x + (noise * self.noise_strength).to(x.dtype), self.bias, clamp=clamp)


class ToRgb(nn.Module):
    """1x1 convolution to RGB, modulated and not demodulated: [n, i, h, w], [n, w_dim] -> [n, 3, h, w] in full precision."""

    def __init__(self, inputs: int, w_dim: int) -> None:
        super().__init__()
        self.affine = EqualLinear(w_dim, inputs, bias=1.0)
        self.weight = nn.Parameter(torch.randn(3, inputs, 1, 1))
        self.bias = nn.Parameter(torch.zeros(3))
        self.style_gain = 1 / math.sqrt(inputs)

    def forward(self, x: Tensor, w: Tensor, clamp: float | None) -> Tensor:
        """Applies the layer."""
        x = modulated_conv2d(x, self.weight, self.affine(w) * self.style_gain, demodulate=False)
        rgb = x.to(self.bias.dtype) + self.bias.reshape(1, -1, 1, 1)
        return rgb if clamp is None else rgb.clamp(-clamp, clamp)


class SynthesisBlock(nn.Module):
    """One resolution: [up-convolution,] convolution, ToRGB added to the upsampled image so far ("skip", StyleGAN2, sec. 4.1)."""

    def __init__(self, config: NetworkConfig, resolution: int) -> None:
        super().__init__()
        outputs = config.channels(resolution)
        first = resolution == 4  # noqa: PLR2004 - the constant's size (StyleGAN, sec. 2)
        self.constant = nn.Parameter(torch.randn(outputs, 4, 4)) if first else None
        self.up = None if first else StyledConv(config.channels(resolution // 2), outputs, config.w_dim, resolution, up=True)
        self.conv = StyledConv(outputs, outputs, config.w_dim, resolution, up=False)
        self.to_rgb = ToRgb(outputs, config.w_dim)
        self.in_half = config.half(resolution)
        self.register_buffer("fir", filters.kernel(), persistent=False)

    def forward(self, x: Tensor | None, rgb: Tensor | None, ws: Tensor, *, fixed_noise: bool, half: HalfPrecision | None) -> tuple[Tensor, Tensor]:
        """``ws``: [n, layers of this block, w_dim]. Returns features and the image so far."""
        half = half if self.in_half else None
        dtype, memory = half or (self.to_rgb.bias.dtype, torch.preserve_format)
        clamp = CLAMP if half else None
        styles = iter(ws.unbind(1))
        if self.up is None:
            assert self.constant is not None
            x = self.constant.to(dtype).expand(ws.shape[0], -1, -1, -1)
        else:
            assert x is not None
            x = self.up(x.to(dtype, memory_format=memory), next(styles), fixed_noise=fixed_noise, clamp=clamp)
        x = self.conv(x, next(styles), fixed_noise=fixed_noise, clamp=clamp)
        assert isinstance(self.fir, Tensor)
        update = self.to_rgb(x, next(styles), clamp)
        return x, update if rgb is None else filters.upsample(rgb, self.fir) + update


class Synthesis(nn.Module):
    """w per layer [n, layers, w_dim] -> images [n, 3, r, r], about -1 to 1, not bounded."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(SynthesisBlock(config, r) for r in config.block_resolutions)
        self.layers = 2 * len(self.blocks)
        """Styles that an image takes: one for each convolution, and one for the last ToRGB."""
        self.half_precision: HalfPrecision | None = None

    def forward(self, ws: Tensor, *, fixed_noise: bool = False) -> Tensor:
        """Draws images."""
        x: Tensor | None = None
        rgb: Tensor | None = None
        at = 0
        for block in self.blocks:
            convolutions = 2 if at else 1
            # A block's ToRGB shares its w with the next block's first convolution (StyleGAN2's published networks).
            x, rgb = block(x, rgb, ws[:, at : at + convolutions + 1], fixed_noise=fixed_noise, half=self.half_precision)
            at += convolutions
        assert rgb is not None
        return rgb


class Generator(nn.Module):
    """Mapping and synthesis."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config
        self.mapping = Mapping(config.z_dim, len(config.classes), config.w_dim, config.mapping_layers)
        self.synthesis = Synthesis(config)

    def forward(self, z: Tensor, labels: Tensor | None = None, *, truncation: float = 1.0, fixed_noise: bool = False) -> Tensor:
        """Images of latents; ``truncation`` draws w towards its mean (StyleGAN, app. B)."""
        w = self.mapping(z, labels)
        if truncation != 1:
            assert isinstance(self.mapping.w_average, Tensor)
            w = self.mapping.w_average.lerp(w, truncation)
        image: Tensor = self.synthesis(w.unsqueeze(1).expand(-1, self.synthesis.layers, -1), fixed_noise=fixed_noise)
        return image
