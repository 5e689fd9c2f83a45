"""Bytes in, hash out: the one call that workers, servicer and benchmarks share."""

from __future__ import annotations

from dataclasses import dataclass

from cosmop_common.errors import InvalidInputError
from cosmop_common.images import MAX_PIXELS

from cosmop_dedup.compat import imagededup_phash, imagehash_phash
from cosmop_dedup.flat import FLAT_BELOW, contrast
from cosmop_dedup.grey import reduce_image
from cosmop_dedup.phash import ALGORITHM, low_frequencies, symmetric_hashes

_OURS = {"", "cosmop", ALGORITHM}
_OTHERS = {"imagehash": imagehash_phash, "imagededup": imagededup_phash}


@dataclass(frozen=True)
class HashedImage:
    """What is known of an image once it is hashed."""

    phash: int
    #: Hashes of its eight flips and rotations (``phash.SYMMETRIES``); the first is ``phash``.
    symmetric: tuple[int, ...]
    #: Grey levels that the hash has to go by (``flat.contrast``).
    contrast: float
    #: Pixels, upright.
    width: int
    height: int

    @property
    def flat(self) -> bool:
        """Low entropy: the hash says nothing."""
        return self.contrast < FLAT_BELOW


def hash_image(data: bytes, *, max_pixels: int = MAX_PIXELS) -> HashedImage:
    """Hashes an image by the default algorithm. CPU-bound: about a millisecond for a small JPEG.

    Raises:
        RefusedImageError: the bytes are no image, too many pixels, or damaged.
    """
    reduced = reduce_image(data, max_pixels=max_pixels)
    low = low_frequencies(reduced.grey)
    symmetric = symmetric_hashes(low)
    return HashedImage(symmetric[0], symmetric, contrast(low), reduced.width, reduced.height)


def hash_by(data: bytes, algorithm: str, *, max_pixels: int = MAX_PIXELS) -> tuple[int, str, bool]:
    """Hashes by an algorithm of choice.

    Args:
        algorithm: "" or "cosmop": ours; "imagehash", "imagededup": bit-exact with those libraries.

    Returns:
        The hash, the algorithm's name, and whether the picture is flat (by our measure, whatever the algorithm).

    Raises:
        InvalidInputError: there is no such algorithm.
        RefusedImageError: the bytes are no image, too many pixels, or damaged.
    """
    if algorithm not in _OURS and algorithm not in _OTHERS:
        raise InvalidInputError(f"there is no hash algorithm {algorithm!r}: use 'cosmop', 'imagehash' or 'imagededup'")
    ours = hash_image(data, max_pixels=max_pixels)
    if algorithm in _OURS:
        return ours.phash, ALGORITHM, ours.flat
    return _OTHERS[algorithm](data, max_pixels=max_pixels), algorithm, ours.flat
