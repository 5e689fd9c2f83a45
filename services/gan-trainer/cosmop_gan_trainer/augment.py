"""Adaptive discriminator augmentation: what the discriminator sees (ADA, sec. 2 and app. B), and how often (sec. 3).

Geometry: 2x upsampling with the sym6 wavelet, bilinear look-up through the combined matrix, downsampling with sym6.
Beyond its edges an image is its own reflection, by the look-up itself, so that nothing needs to be padded to the
largest shift of the batch. Up- and downsampling are small dense matrices: at training sizes a matrix product is
faster than twelve taps, and it differentiates twice.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from cosmop_gan_trainer import transforms
from cosmop_gan_trainer.config import TrainConfig
from cosmop_gan_trainer.team import Team

#: Symlet 6, low-pass decomposition filter (Daubechies, "Ten Lectures on Wavelets", 1992, table 6.3); the choice: ADA, app. B.1.
SYM6 = (
    0.015404109327027373, 0.0034907120842174702, -0.11799011114819057, -0.048311742585633, 0.4910559419267466, 0.787641141030194,
    0.3379294217276218, -0.07263752278646252, -0.021060292512300564, 0.04472490177066578, 0.0017677118642428036, -0.007800708325034148,
)  # fmt: skip
_TAPS = len(SYM6)
#: Pixels of the upsampled grid around the image that its last downsampling reads.
_MARGIN = _TAPS // 2
#: How far off the middle of its taps the filter's centre of mass lies: its two uses cancel, what is between them is shifted.
_OFFSET = (_TAPS - 1) / 2 - sum(k * t for k, t in enumerate(SYM6)) / sum(SYM6)


@functools.cache
def _upsampler(size: int) -> Tensor:
    """[2 size, size]: zero insertion, reflection at the edges, sym6 with gain 2."""
    result = torch.zeros(2 * size, size, dtype=torch.float64)
    total = sum(SYM6)
    for out in range(2 * size):
        for k, tap in enumerate(SYM6):
            at = out - _MARGIN + k
            if at % 2 == 0:
                result[out, _reflected(at // 2, size)] += 2 * tap / total
    return result.float()


@functools.cache
def _downsampler(size: int) -> Tensor:
    """[size, 2 size + 2 margin]: the reversed filter, every second position."""
    result = torch.zeros(size, 2 * size + 2 * _MARGIN, dtype=torch.float64)
    total = sum(SYM6)
    for out in range(size):
        for k, tap in enumerate(reversed(SYM6)):
            result[out, 2 * out + 1 + k] = tap / total
    return result.float()


def _reflected(at: int, size: int) -> int:
    while not 0 <= at < size:
        at = -1 - at if at < 0 else 2 * size - 1 - at
    return at


def warp(images: Tensor, inverse: Tensor) -> Tensor:
    """Images [n, 3, r, r] through matrices [n, 3, 3] from output to input pixels, origin at the centre."""
    n, _, size, _ = images.shape
    dtype, device = images.dtype, images.device
    up, down = _upsampler(size).to(device, dtype), _downsampler(size).to(device, dtype)
    large = up @ images @ up.t()
    # The same transform in pixels of the upsampled grid, whose origin the filter moved by _OFFSET ...
    to_large = torch.tensor([[2.0, 0.0, _OFFSET], [0.0, 2.0, _OFFSET], [0.0, 0.0, 1.0]], dtype=torch.float64)
    g = to_large @ inverse.double() @ torch.linalg.inv(to_large)
    # ... and in the look-up's own units, where -1 and 1 are the edges.
    wide = 2 * size + 2 * _MARGIN
    g = torch.diag(torch.tensor([1 / size, 1 / size, 1.0], dtype=torch.float64)) @ g @ torch.diag(torch.tensor([wide / 2, wide / 2, 1.0], dtype=torch.float64))
    grid = F.affine_grid(g[:, :2].to(device, dtype), [n, 3, wide, wide], align_corners=False)
    warped = F.grid_sample(large, grid, mode="bilinear", padding_mode="reflection", align_corners=False)
    return down @ warped @ down.t()


def recolour(images: Tensor, maps: Tensor) -> Tensor:
    """Images [n, 3, r, r] through affine maps of RGB [n, 4, 4]."""
    maps = maps.to(images.device, images.dtype)
    mixed = maps[:, :3, :3] @ images.flatten(2) + maps[:, :3, 3:]
    return mixed.reshape(images.shape)


class Augment(nn.Module):
    """Augments images with probability ``p``; with p = 0 they pass untouched."""

    def __init__(self) -> None:
        super().__init__()
        self.p = 0.0

    def forward(self, images: Tensor) -> Tensor:
        """[n, 3, r, r] -> the same. Only the images that something happens to are computed."""
        if self.p <= 0:
            return images
        n, size = len(images), images.shape[-1]
        geometry, colour = transforms.geometry(n, self.p, size), transforms.colour(n, self.p)
        images = _some(images, geometry, torch.eye(3), warp)
        return _some(images, colour, torch.eye(4), recolour)


def _some(images: Tensor, matrices: Tensor, identity: Tensor, apply: Any) -> Tensor:
    touched = ((matrices - identity).abs() > 1e-7).flatten(1).any(1).nonzero().squeeze(1)  # noqa: PLR2004 - rounding of sines
    if not len(touched):
        return images
    index = touched.to(images.device)
    changed: Tensor = apply(images[index], matrices[touched])
    return images.index_copy(0, index, changed)


class Controller:
    """Moves p so that the discriminator's mean sign on reals stays at its target (ADA, sec. 3.1, heuristic r_t).

    An overfitting discriminator is sure of every real image: r_t = E[sign D(real)] comes near 1, and p rises.
    """

    def __init__(self, config: TrainConfig) -> None:
        self._config = config
        self.p = 0.0
        self.sign = 0.0
        """r_t over the last interval."""
        self._sum = 0.0
        self._count = 0

    def see(self, real_logits: Tensor) -> None:
        """Notes what the discriminator said of real images."""
        self._sum += float(real_logits.detach().sign().sum())
        self._count += real_logits.numel()

    def step(self, steps: int, team: Team | None = None) -> None:
        """Adjusts p after every ``ada_interval``-th step; ``steps`` counts finished ones."""
        c = self._config
        if steps % c.ada_interval:
            return
        seen = torch.tensor([self._sum, self._count])
        if team is not None:
            team.sum([seen])
        self._sum, self._count = float(seen[0]), int(seen[1])
        if not self._count:
            return
        self.sign = self._sum / self._count
        self._sum, self._count = 0.0, 0
        if c.ada_target > 0:
            change = math.copysign(1.0, self.sign - c.ada_target) if self.sign != c.ada_target else 0.0
            self.p = min(max(self.p + change * c.batch * c.ada_interval / (c.ada_kimg * 1000), 0.0), c.ada_cap)

    def state(self) -> dict[str, float]:
        """All that ``restore`` needs."""
        return {"p": self.p, "sign": self.sign, "sum": self._sum, "count": self._count}

    def restore(self, state: dict[str, float]) -> None:
        """Goes on from ``state``."""
        self.p, self.sign, self._sum, self._count = state["p"], state["sign"], state["sum"], int(state["count"])
