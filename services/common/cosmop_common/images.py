"""Safe decoding of images that came from anywhere.

Only the formats named are tried; the pixels are counted from the header before anything is decoded; a truncated image
is an error and not a half-grey picture. Every failure is a ``RefusedImageError`` with its reason.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageFile, ImageOps, UnidentifiedImageError

from cosmop_common.errors import RefusedImageError
from cosmop_common.pb.cosmop.v1 import facts_pb2

#: Our format names, and Pillow's.
FORMATS = {"jpeg": "JPEG", "png": "PNG", "webp": "WEBP", "gif": "GIF", "bmp": "BMP", "tiff": "TIFF", "avif": "AVIF"}
_MEDIA_TYPES = {pillow: f"image/{ours}" for ours, pillow in FORMATS.items()} | {"MPO": "image/jpeg"}

MAX_PIXELS = 100_000_000

# Ours is checked from the header, with a reason; Pillow's own guard (an error at twice this) stays as the second line.
Image.MAX_IMAGE_PIXELS = 178_956_970
ImageFile.LOAD_TRUNCATED_IMAGES = False
# Once and for all: ``warnings.catch_warnings`` around each decoding would not be safe where several threads decode.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
warnings.filterwarnings("ignore", module=r"PIL\.")


@dataclass(frozen=True)
class ImageInfo:
    """What the header says."""

    media_type: str
    #: Pixels as stored, before EXIF rotation.
    width: int
    height: int


def open_image(data: bytes, *, formats: Sequence[str] = tuple(FORMATS), max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Opens an image without decoding its pixels.

    Raises:
        RefusedImageError: no image, a format not taken, or more than ``max_pixels``.
    """
    try:
        image = Image.open(io.BytesIO(data), formats=[FORMATS[f] for f in formats])
    except UnidentifiedImageError as error:
        raise _unidentified(data, formats) from error
    except Image.DecompressionBombError as error:
        raise RefusedImageError(facts_pb2.REFUSAL_REASON_TOO_MANY_PIXELS, f"more than {max_pixels:,} pixels: {error}") from error
    except Exception as error:
        raise RefusedImageError(facts_pb2.REFUSAL_REASON_CORRUPT, f"its header cannot be read: {error}") from error
    width, height = image.size
    if width * height > max_pixels:
        raise RefusedImageError(facts_pb2.REFUSAL_REASON_TOO_MANY_PIXELS, f"{width} x {height} pixels; at most {max_pixels:,} are taken")
    return image


def inspect(data: bytes, *, formats: Sequence[str] = tuple(FORMATS), max_pixels: int = MAX_PIXELS) -> ImageInfo:
    """Decodes an image fully once, to know that it decodes, and says what it is.

    JPEGs are decoded at an eighth of their size, which still reads every byte.

    Raises:
        RefusedImageError: see ``open_image``; also damaged or truncated pixels.
    """
    image = open_image(data, formats=formats, max_pixels=max_pixels)
    info = ImageInfo(_MEDIA_TYPES[image.format or ""], *image.size)
    if image.format == "JPEG":
        image.draft("L", (max(1, info.width // 8), max(1, info.height // 8)))
    load_pixels(image)
    return info


def decode_rgb(data: bytes, *, max_pixels: int = MAX_PIXELS, at_least: int | None = None) -> Image.Image:
    """An image as RGB, upright by its EXIF, transparency on white.

    Args:
        at_least: the shortest side that the caller needs: JPEGs may then be decoded smaller, down to that.

    Raises:
        RefusedImageError: the bytes are no image, too many pixels, or damaged.
    """
    image = open_image(data, max_pixels=max_pixels)
    if at_least is not None and image.format == "JPEG":
        short = min(image.size)
        scale = max(1, short // max(1, at_least))
        image.draft("RGB", (image.width // scale, image.height // scale))
    load_pixels(image)
    image = ImageOps.exif_transpose(image)
    if image.mode in {"I;16", "I;16B", "I;16L", "I"}:
        image = image.point(lambda v: v / 256).convert("L")
    if image.mode in {"RGBA", "LA", "PA"} or "transparency" in image.info:
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", rgba.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, rgba).convert("RGB")
    return image.convert("RGB")


def load_pixels(image: Image.Image) -> None:
    """Decodes the pixels of an opened image. Raises ``RefusedImageError`` where they are damaged or cut off."""
    try:
        image.load()
    except Exception as error:
        raise RefusedImageError(facts_pb2.REFUSAL_REASON_CORRUPT, f"its pixels do not decode: {error}") from error


def _unidentified(data: bytes, formats: Sequence[str]) -> RefusedImageError:
    head = data[:512].lstrip().lower()
    what = "the bytes are no image"
    if not data:
        what = "it is empty"
    elif head.startswith((b"<!doctype html", b"<html", b"<head", b"<body")):
        what = "it is an HTML page, not an image"
    elif b"<svg" in head:
        what = "it is SVG, a drawing program and not a photo"
    else:
        try:
            other = Image.open(io.BytesIO(data), formats=list(FORMATS.values()))
        except Exception:  # noqa: BLE001 - whatever it is, it is none of ours
            other = None
        if other is not None:
            return RefusedImageError(facts_pb2.REFUSAL_REASON_FORMAT, f"it is {other.format}; this collection takes {', '.join(formats)}")
    return RefusedImageError(facts_pb2.REFUSAL_REASON_NOT_AN_IMAGE, what)
