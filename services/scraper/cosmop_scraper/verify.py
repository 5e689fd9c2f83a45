"""Whether downloaded bytes are an image that the collection takes. Pure: bytes and settings in, a finding out."""

from __future__ import annotations

from dataclasses import dataclass

from cosmop_common.collection import ScrapeSettings
from cosmop_common.errors import RefusedImageError
from cosmop_common.images import ImageInfo, inspect, open_image
from cosmop_common.names import sha256_hex
from cosmop_common.pb.cosmop.v1 import facts_pb2
from PIL import Image

from cosmop_scraper.ending import missing_end
from cosmop_scraper.polyglot import second_nature

_UNKNOWN = ImageInfo("", 0, 0)


@dataclass(frozen=True, slots=True)
class Finding:
    """What bytes turned out to be."""

    #: sha256 of the bytes.
    image: str
    info: ImageInfo
    #: None: the image is taken.
    refusal: facts_pb2.Refusal | None = None


def verify(data: bytes, scrape: ScrapeSettings) -> Finding:
    """Hashes the bytes, decodes them once, and applies the collection's filters. CPU-bound: call it in a thread."""
    image = sha256_hex(data)
    try:
        info = inspect(data, formats=scrape.formats, max_pixels=scrape.max_pixels)
        if what := missing_end(data):
            raise RefusedImageError(facts_pb2.REFUSAL_REASON_CORRUPT, f"it is cut off: {what}")
        _filter(info, scrape)
        if what := second_nature(data):
            raise RefusedImageError(facts_pb2.REFUSAL_REASON_POLYGLOT, f"an image, and {what} as well")
    except RefusedImageError as error:
        return Finding(image, _describe(data), error.refusal())
    return Finding(image, info)


def _filter(info: ImageInfo, scrape: ScrapeSettings) -> None:
    short, long = sorted((info.width, info.height))
    if short < scrape.min_side:
        raise RefusedImageError(facts_pb2.REFUSAL_REASON_TOO_SMALL, f"{info.width} x {info.height} pixels; each side must have {scrape.min_side} or more")
    if long > scrape.max_aspect * short:
        raise RefusedImageError(facts_pb2.REFUSAL_REASON_ASPECT, f"{info.width} x {info.height} pixels; at most {scrape.max_aspect:g} times as long as wide")


def _describe(data: bytes) -> ImageInfo:
    """What the header of a refused image says, where it can be read at all."""
    try:
        opened = open_image(data, max_pixels=1 << 62)
    except RefusedImageError:
        return _UNKNOWN
    return ImageInfo(Image.MIME.get(opened.format or "", ""), *opened.size)
