"""A perceptual hash of the world's own, so that what is planted is known apart from the service that must find it."""

from __future__ import annotations

import numpy as np
from PIL import Image

_SIDE, _LOW = 32, 8
_k = np.arange(_SIDE)
#: DCT-II; the scale does not matter for signs against a mean.
_DCT = np.cos(np.pi * _k[:, None] * (2 * _k[None, :] + 1) / (2 * _SIDE))
_DCT[0] /= np.sqrt(2)


def phash(image: Image.Image) -> int:
    """64 bits: which of the 8 x 8 lowest frequencies of the 32 x 32 grey image exceed the mean of the 63 that are no average."""
    grey = np.asarray(image.convert("L").resize((_SIDE, _SIDE), Image.Resampling.LANCZOS), np.float64)
    low = (_DCT @ grey @ _DCT.T)[:_LOW, :_LOW].ravel()
    bits = low > low[1:].mean()
    return int(np.packbits(bits).view(">u8")[0])
