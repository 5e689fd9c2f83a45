"""From the bytes of an image to the grey 32x32 picture that is hashed; every kind of image has a defined way.

========================  ==========================================================================================
JPEG                      decoded at the smallest of 1/8, 1/4, 1/2 that leaves 192 pixels a side, its luma only
EXIF orientation          applied before the reduction: a rotated file hashes as its upright twin
alpha, transparent index  laid on white
palette, 1 bit            as the colours they stand for
CMYK, HSV                 by way of RGB; LAB: its lightness
16 bits a channel         the upper 8
32 bits, floating point   stretched from their least to their greatest value (they state no range)
animation, several pages  the first
========================  ==========================================================================================

The reduction is Pillow's triangle filter (``BILINEAR``, antialiased, fixed-point): it needs no transcendental function,
so that its weights are the same on every machine.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from cosmop_common.images import MAX_PIXELS, load_pixels, open_image
from numpy.typing import NDArray
from PIL import ExifTags, Image

from cosmop_dedup.phash import SIDE

#: A JPEG is decoded no smaller than this. Six times the side that is needed: as many re-encoded and resized copies then keep
#: the very same hash as after a full decode (77 %; with twice the side 71 %), at nearly thrice its speed.
_DRAFT_SIDE = 6 * SIDE
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
#: Orientations that exchange width and height.
_SIDEWAYS = {5, 6, 7, 8}


@dataclass(frozen=True)
class Reduced:
    """What is hashed of an image."""

    #: uint8, shape (32, 32), upright.
    grey: NDArray[np.uint8]
    #: Pixels of the whole image, upright.
    width: int
    height: int


def reduce_image(data: bytes, *, max_pixels: int = MAX_PIXELS) -> Reduced:
    """Decodes an image no larger than needed and reduces it to grey 32x32, upright.

    Raises:
        RefusedImageError: the bytes are no image, too many pixels, or damaged.
    """
    image = open_image(data, max_pixels=max_pixels)
    is_jpeg = image.format in {"JPEG", "MPO"}
    width, height = image.size
    if is_jpeg:
        image.draft("L", (_DRAFT_SIDE, _DRAFT_SIDE))
    load_pixels(image)
    if not is_jpeg:
        # Pillow turns TIFFs upright while it loads them.
        width, height = image.size
    orientation = _orientation(image)
    if orientation in _SIDEWAYS:
        width, height = height, width
    if orientation in _TURNS:
        image = image.transpose(_TURNS[orientation])
    grey = np.asarray(to_grey(image).resize((SIDE, SIDE), Image.Resampling.BILINEAR))
    return Reduced(grey, width, height)


def to_grey(image: Image.Image) -> Image.Image:
    """Any loaded image as 8-bit grey (mode ``L``), by the table above."""
    if image.mode == "L" and "transparency" not in image.info:
        return image
    if image.mode in {"RGBA", "LA", "PA", "La", "RGBa"} or "transparency" in image.info:
        rgba = image.convert("LA").convert("RGBA") if image.mode == "La" else image.convert("RGBA")
        white = Image.new("RGBA", rgba.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, rgba).convert("L")
    if image.mode.startswith(("I", "F")):
        return _deep_to_grey(image)
    if image.mode == "LAB":
        return image.getchannel(0)
    return image.convert("RGB").convert("L")


def _deep_to_grey(image: Image.Image) -> Image.Image:
    """More than 8 bits a pixel."""
    if image.mode.startswith("I;16"):
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    return _stretched(np.asarray(image, dtype=np.float64))


def _stretched(values: NDArray[np.float64]) -> Image.Image:
    """Values of no stated range, from the least (0) to the greatest (255); not-a-number counts as the least."""
    finite = np.isfinite(values)
    low, high = (values[finite].min(), values[finite].max()) if finite.any() else (0.0, 0.0)
    scale = 255.0 / (high - low) if high > low else 0.0
    shifted = np.where(finite, values - low, 0.0) * scale
    return Image.fromarray(np.rint(shifted).astype(np.uint8))


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # noqa: BLE001 - damaged EXIF raises whatever it likes, and must not cost the image
        return 1
