"""The augmentations' random matrices: geometry in the plane, colour in RGB space (ADA, app. B, "bgc").

Each transform happens to an image with probability p, on its own. Every function makes one matrix an image.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

# ADA, app. B: extents of the distributions.
SHIFT_INTEGER = 0.125
SHIFT_DEVIATION = 0.125
SCALE_DEVIATION = 0.2
BRIGHTNESS_DEVIATION = 0.2
CONTRAST_DEVIATION = 0.5
SATURATION_DEVIATION = 1.0


def matrix(rows: list[list[Tensor | float]], n: int) -> Tensor:
    """A batch of matrices from entries that are numbers or one value an image: [n, rows, columns]."""
    values = [torch.as_tensor(v, dtype=torch.float32).expand(n) for row in rows for v in row]
    return torch.stack(values, 1).reshape(n, len(rows), len(rows[0]))


def translate2d(x: Tensor, y: Tensor) -> Tensor:
    """[n] and [n] -> [n, 3, 3]."""
    return matrix([[1, 0, x], [0, 1, y], [0, 0, 1]], len(x))


def scale2d(x: Tensor, y: Tensor) -> Tensor:
    """[n] and [n] -> [n, 3, 3]."""
    return matrix([[x, 0, 0], [0, y, 0], [0, 0, 1]], len(x))


def rotate2d(angle: Tensor) -> Tensor:
    """Radians [n] -> [n, 3, 3]."""
    c, s = angle.cos(), angle.sin()
    return matrix([[c, -s, 0], [s, c, 0], [0, 0, 1]], len(angle))


def _where(happens: Tensor, value: Tensor, otherwise: float) -> Tensor:
    return torch.where(happens, value, torch.full_like(value, otherwise))


def _happens(n: int, p: float) -> Tensor:
    return torch.rand(n) < p


def geometry(n: int, p: float, size: int) -> Tensor:
    """The inverse geometric transforms of n images: matrices [n, 3, 3] from output to input, pixels, origin at the centre.

    In order of application (ADA, app. B.1): mirror, quarter turns, shift by whole pixels, isotropic scale, rotation, anisotropic
    scale, rotation, fractional shift. The two rotations share the probability p: each has 1 - sqrt(1 - p).
    """
    one = torch.ones(n)
    g = torch.eye(3).expand(n, 3, 3)
    mirrored = _happens(n, p) & (torch.rand(n) < 0.5)  # noqa: PLR2004 - of the two, one is the image as it is
    g = g @ scale2d(_where(mirrored, -one, 1), one)
    turns = _where(_happens(n, p), (torch.rand(n) * 4).floor(), 0)
    g = g @ rotate2d(turns * (math.pi / 2))
    happens = _happens(n, p)
    x, y = ((torch.rand(n) * 2 - 1) * SHIFT_INTEGER for _ in range(2))
    g = g @ translate2d(-(_where(happens, x, 0) * size).round(), -(_where(happens, y, 0) * size).round())
    scale = _where(_happens(n, p), torch.exp2(torch.randn(n) * SCALE_DEVIATION), 1)
    g = g @ scale2d(1 / scale, 1 / scale)
    rotation = 1 - math.sqrt(max(0.0, 1 - p))
    g = g @ rotate2d(_where(_happens(n, rotation), (torch.rand(n) * 2 - 1) * math.pi, 0))
    scale = _where(_happens(n, p), torch.exp2(torch.randn(n) * SCALE_DEVIATION), 1)
    g = g @ scale2d(1 / scale, scale)
    g = g @ rotate2d(_where(_happens(n, rotation), (torch.rand(n) * 2 - 1) * math.pi, 0))
    happens = _happens(n, p)
    x, y = (torch.randn(n) * SHIFT_DEVIATION for _ in range(2))
    return g @ translate2d(-_where(happens, x, 0) * size, -_where(happens, y, 0) * size)


#: The grey axis of RGB space.
_GREY = torch.tensor([1.0, 1.0, 1.0, 0.0]) / math.sqrt(3)


def rotate_hue(angle: Tensor) -> Tensor:
    """Rotation of RGB space around the grey axis, [n] -> [n, 4, 4] (Rodrigues' formula)."""
    v = _GREY[:3]
    cross = torch.tensor([[0, -v[2], v[1]], [v[2], 0, -v[0]], [-v[1], v[0], 0]])
    c, s = angle.cos()[:, None, None], angle.sin()[:, None, None]
    result = torch.eye(4).repeat(len(angle), 1, 1)
    result[:, :3, :3] = torch.eye(3) * c + torch.outer(v, v) * (1 - c) + cross * s
    return result


def colour(n: int, p: float) -> Tensor:
    """The colour transforms of n images: affine maps of RGB, [n, 4, 4].

    In order of application (ADA, app. B.2): brightness, contrast, luma flip, hue, saturation.
    """
    identity = torch.eye(4)
    grey = torch.outer(_GREY, _GREY)
    brightness = _where(_happens(n, p), torch.randn(n) * BRIGHTNESS_DEVIATION, 0)
    c = identity.repeat(n, 1, 1)
    c[:, :3, 3] = brightness[:, None]
    contrast = _where(_happens(n, p), torch.exp2(torch.randn(n) * CONTRAST_DEVIATION), 1)
    c = torch.diag_embed(torch.stack([contrast, contrast, contrast, torch.ones(n)], 1)) @ c
    flipped = (_happens(n, p) & (torch.rand(n) < 0.5)).float()  # noqa: PLR2004
    c = (identity - 2 * grey * flipped[:, None, None]) @ c
    c = rotate_hue(_where(_happens(n, p), (torch.rand(n) * 2 - 1) * math.pi, 0)) @ c
    saturation = _where(_happens(n, p), torch.exp2(torch.randn(n) * SATURATION_DEVIATION), 1)
    return (grey + (identity - grey) * saturation[:, None, None]) @ c
