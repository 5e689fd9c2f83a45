"""The paper's augmentations: rotation, width and height shift, zoom, shear and horizontal flip, as one affine map.

The paper names the kinds and no amounts; these are moderate ones. Pixels from outside repeat the border ("nearest", the
default of the Keras generator whose words the paper uses). Which map an image gets depends on the seed, the image and the
number of the copy alone: not on its place in a batch, nor on what came before.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]

ROTATION_DEGREES = 20.0
SHIFT = 0.1
ZOOM = 0.2
SHEAR_DEGREES = 10.0
#: Counts changes of the recipe: part of the key under which features are cached.
RECIPE = 1


def draw(seed: int, image: str, copy: int) -> Array:
    """The affine map of an image's copy, 2 x 3, from output to input coordinates in [-1, 1]."""
    digest = hashlib.sha256(f"{seed}:{image}:{copy}".encode()).digest()
    rng = np.random.default_rng(int.from_bytes(digest[:8], "big"))
    angle, shear = (math.radians(rng.uniform(-limit, limit)) for limit in (ROTATION_DEGREES, SHEAR_DEGREES))
    shift_x, shift_y = rng.uniform(-SHIFT, SHIFT, 2) * 2
    zoom_x, zoom_y = rng.uniform(1 - ZOOM, 1 + ZOOM, 2)
    mirror = -1.0 if rng.random() < 0.5 else 1.0  # noqa: PLR2004 - a fair coin
    rotate = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    slant = np.array([[1.0, -math.sin(shear)], [0.0, math.cos(shear)]])
    linear = rotate @ slant @ np.diag([zoom_x * mirror, zoom_y])
    return np.concatenate([linear, [[shift_x], [shift_y]]], axis=1).astype(np.float32)


def apply(pixels: Array, maps: Sequence[Array]) -> Array:
    """Maps images, each by its own map.

    Args:
        pixels: preprocessed, (n, 3, h, w).
        maps: n of ``draw``'s.
    """
    import torch
    from torch.nn import functional

    images = torch.from_numpy(np.ascontiguousarray(pixels))
    grid = functional.affine_grid(torch.from_numpy(np.stack(maps)), list(images.shape), align_corners=False)
    moved: Array = functional.grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False).numpy()
    return moved
