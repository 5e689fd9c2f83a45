"""The perceptual hash: 64 bits that copies of a picture share and different pictures do not.

The COSMOP paper, section III-B, after Krawetz, "Looks Like It" (2011): grey, 32x32, DCT, the low 8x8 coefficients, a bit
for each that exceeds their average. The average leaves the DC term out: with it, unrelated photos collide
(docs/decisions.md).

The DCT is computed in whole numbers. Its matrix is rounded to multiples of 2^-15, pixels are whole numbers, and every
sum stays below 2^53: float64 holds all of them exactly, whatever the order of the additions, so that every machine and
every BLAS gives the same hash.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

#: Name and version of the default algorithm. Any change that may change a bit changes the version.
ALGORITHM = "phash-ac-mean/1"

#: Side of the reduced image, and of the block of low frequencies.
SIDE, LOW = 32, 8
_SCALE = 2.0**15
_AC_TERMS = LOW * LOW - 1
#: The signs that mirroring gives the frequencies.
_ALTERNATING = np.where(np.arange(LOW) % 2 == 0, 1.0, -1.0)
#: The eight symmetries of a square, as (transpose, flip rows, flip columns); the first is the identity.
SYMMETRIES = tuple((t, v, h) for t in (False, True) for v in (False, True) for h in (False, True))


def _dct_matrix() -> NDArray[np.float64]:
    """The first 8 rows of the orthonormal 32-point DCT-II, times 2^15, rounded: shape (8, 32), whole numbers.

    The second half mirrors the first by construction, so that a mirrored image has exactly the mirrored coefficients.
    """
    angles = np.outer(np.arange(LOW), 2 * np.arange(SIDE // 2) + 1) * (np.pi / (2 * SIDE))
    half = np.sqrt(2.0 / SIDE) * np.cos(angles)
    half[0] /= np.sqrt(2.0)
    half = np.rint(half * _SCALE)
    return np.concatenate([half, _ALTERNATING[:, None] * half[:, ::-1]], axis=1)


_DCT = _dct_matrix()
#: The signs that each symmetry gives the coefficients: shape (8, 8, 8).
_SIGNS = np.stack([np.outer(_ALTERNATING if v else np.ones(LOW), _ALTERNATING if h else np.ones(LOW)) for _, v, h in SYMMETRIES])


def low_frequencies(grey: NDArray[np.uint8]) -> NDArray[np.float64]:
    """The low 8x8 DCT-II coefficients of a grey 32x32 image, times 2^30.

    Args:
        grey: uint8, shape (32, 32), or a batch of shape (n, 32, 32).

    Returns:
        float64 that hold whole numbers, shape (8, 8) or (n, 8, 8); row: vertical frequency, column: horizontal.
    """
    return np.asarray(_DCT @ grey.astype(np.float64) @ _DCT.T)


def hash_bits(low: NDArray[np.float64]) -> NDArray[np.bool_]:
    """A bit for each coefficient that exceeds the mean of the 63 AC terms; shape as ``low``. Exact: no division."""
    ac_sum = low.sum(axis=(-2, -1), keepdims=True) - low[..., :1, :1]
    return np.asarray(low * _AC_TERMS > ac_sum)


def pack(bits: NDArray[np.bool_]) -> int:
    """64 bits, row by row from the lowest frequency, most significant first, as an unsigned integer."""
    return int.from_bytes(np.packbits(bits.reshape(-1)).tobytes(), "big")


def phash(grey: NDArray[np.uint8]) -> int:
    """The 64-bit perceptual hash of a grey 32x32 image (uint8, shape (32, 32))."""
    return pack(hash_bits(low_frequencies(grey)))


def symmetric_hashes(low: NDArray[np.float64]) -> tuple[int, ...]:
    """Hashes of the image's eight flips and rotations by 90 degrees, from its one DCT, in the order of ``SYMMETRIES``.

    Mirroring an image negates its odd frequencies along that axis, transposing it transposes them: each hash is exactly
    that of the turned 32x32 image.

    Args:
        low: coefficients of ``low_frequencies``, shape (8, 8).
    """
    turned = np.concatenate([np.broadcast_to(low, (4, LOW, LOW)), np.broadcast_to(low.T, (4, LOW, LOW))]) * _SIGNS
    packed = np.packbits(hash_bits(turned).reshape(len(SYMMETRIES), -1), axis=1)
    return tuple(int(h) for h in packed.view(">u8").reshape(-1))
