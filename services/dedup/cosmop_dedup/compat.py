"""Hashes that are bit-exact with other libraries': to compare with collections that were hashed elsewhere.

Both differ from ours and from each other: they decode in full, ignore EXIF, reduce with Lanczos' filter, and threshold
at a median. The DCT is SciPy's, as theirs is: the same routine gives the same last bit.
"""

from __future__ import annotations

import numpy as np
from cosmop_common.images import MAX_PIXELS, load_pixels, open_image
from PIL import Image
from scipy.fft import dct

from cosmop_dedup.phash import LOW, SIDE, pack

_SIZE = (SIDE, SIDE)


def imagehash_phash(data: bytes, *, max_pixels: int = MAX_PIXELS) -> int:
    """``imagehash.phash`` of ImageHash 4.3: grey, then reduced; above the median of all 64 coefficients, DC among them.

    Raises:
        RefusedImageError: the bytes are no image, too many pixels, or damaged.
    """
    image = _loaded(data, max_pixels)
    low = _low(image.convert("L").resize(_SIZE, Image.Resampling.LANCZOS))
    return pack(low > np.median(low))


def imagededup_phash(data: bytes, *, max_pixels: int = MAX_PIXELS) -> int:
    """``PHash().encode_image`` of imagededup 0.3: reduced in colour, then grey; at or above the median of the AC terms.

    Raises:
        RefusedImageError: the bytes are no image, too many pixels, or damaged.
    """
    image = _loaded(data, max_pixels)
    if image.mode != "RGB":
        image = image.convert("RGBA").convert("RGB")
    low = _low(image.resize(_SIZE, Image.Resampling.LANCZOS).convert("L"))
    return pack(low >= np.median(low.reshape(-1)[1:]))


def _loaded(data: bytes, max_pixels: int) -> Image.Image:
    image = open_image(data, max_pixels=max_pixels)
    load_pixels(image)
    return image


def _low(grey: Image.Image) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    pixels = np.asarray(grey)
    return np.asarray(dct(dct(pixels, axis=0), axis=1))[:LOW, :LOW]
