"""Resizing to the square that a feature network takes, in the ways that FID tools differ by.

Each way is linear and separable, so each is a pair of matrices: ``rows @ image @ columns^T``.

``tf1``       what the TensorFlow graph of the original FID does (``resize_bilinear`` before 2.0): output pixel i takes the input
              at ``i * in / out``, corners and not centres aligned, no antialiasing. FID's definition.
``bicubic``   Pillow's antialiased bicubic in float: Parmar et al., "On Aliased Resizing and Surprising Subtleties in GAN
              Evaluation", 2022 (clean-fid).
``bilinear``  antialiased bilinear, centres aligned: torchmetrics' default, and torch's ``interpolate(antialias=True)``.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Resize = Literal["tf1", "bicubic", "bilinear"]


def resize(image: NDArray[np.uint8], side: int, how: Resize) -> NDArray[np.float32]:
    """An image as ``side`` x ``side``, aspect lost, values in [0, 255].

    Args:
        image: H x W x 3.

    Returns:
        3 x side x side.
    """
    height, width, _ = image.shape
    rows, columns = interpolation(height, side, how), interpolation(width, side, how)
    planes = image.transpose(2, 0, 1).astype(np.float32)
    resized: NDArray[np.float32] = np.matmul(np.matmul(rows, planes), columns.T)
    # A cubic kernel overshoots at edges; clean-fid cuts there too.
    return np.clip(resized, 0, 255) if how == "bicubic" else resized


@functools.lru_cache(maxsize=256)
def interpolation(size: int, side: int, how: Resize) -> NDArray[np.float32]:
    """The matrix, shape (side, size), that resizes one axis; its rows sum to 1."""
    if how == "tf1":
        return _corner_bilinear(size, side)
    return _antialiased(size, side, _triangle, 1.0) if how == "bilinear" else _antialiased(size, side, _cubic, 2.0)


def _corner_bilinear(size: int, side: int) -> NDArray[np.float32]:
    # In float32, as TensorFlow computes the position.
    position = np.arange(side, dtype=np.float32) * np.float32(size / side)
    low = np.floor(position).astype(np.intp)
    high = np.minimum(low + 1, size - 1)
    share = (position - low).astype(np.float32)
    matrix = np.zeros((side, size), np.float32)
    rows = np.arange(side)
    matrix[rows, low] = 1 - share
    # At the border low and high are one pixel, and take both shares.
    np.add.at(matrix, (rows, high), share)
    return matrix


def _antialiased(size: int, side: int, kernel: Callable[[NDArray[np.float64]], NDArray[np.float64]], support: float) -> NDArray[np.float32]:
    """Centres aligned; the kernel widens with the reduction, and is normalised where the border cuts it."""
    scale = size / side
    stretch = max(scale, 1.0)
    centre = (np.arange(side)[:, None] + 0.5) * scale
    pixel = np.arange(size)[None, :]
    # Pillow rounds the window to whole pixels before it weighs them.
    low = np.maximum(np.floor(centre - support * stretch + 0.5), 0)
    high = np.minimum(np.floor(centre + support * stretch + 0.5), size)
    weights = np.where((pixel >= low) & (pixel < high), kernel((pixel - centre + 0.5) / stretch), 0.0)
    return np.asarray(weights / weights.sum(axis=1, keepdims=True), dtype=np.float32)


def _triangle(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(np.maximum(1 - np.abs(x), 0))


def _cubic(x: NDArray[np.float64], a: float = -0.5) -> NDArray[np.float64]:
    """Keys, "Cubic convolution interpolation for digital image processing", 1981, with Pillow's a."""
    x = np.abs(x)
    near = ((a + 2) * x - (a + 3)) * x * x + 1
    far = (((x - 5) * x + 8) * x - 4) * a
    return np.where(x < 1, near, np.where(x < 2, far, 0.0))  # noqa: PLR2004 - the kernel's pieces
