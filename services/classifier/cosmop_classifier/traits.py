"""What is known of an image beside its label: its colour and light, where and how often it was found.

Kept beside the dataset version (``traits.json``), so that every model of a version is sliced alike.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import numpy as np
from cosmop_common.errors import NotFoundError
from cosmop_common.facts import Facts
from cosmop_common.images import decode_rgb
from cosmop_common.names import dataset_key
from cosmop_common.pb.cosmop.v1 import facts_pb2
from cosmop_common.records import Record
from cosmop_common.store import Store
from pydantic import BaseModel

from cosmop_classifier.features import CHUNK, read_all, stored

#: Decoding stops here: colour and light need no more pixels.
_SIDE = 64


class Traits(BaseModel):
    """Of one image."""

    #: Mean over pixels of the largest channel minus the smallest: 0 is grey, 255 the most colourful.
    chroma: float
    #: Mean luma, 0 to 255.
    brightness: float
    #: Where it was found first; empty where no sighting is known.
    source: str = ""
    sightings: int = 0


class TraitsRecord(Record):
    """``datasets/<collection>/<version>/traits.json``: by image, of the validation and test splits."""

    images: dict[str, Traits]


async def traits_of(store: Store, dataset: str, images: Sequence[str], facts: Facts) -> dict[str, Traits]:
    """Traits of a dataset version's images: those that are kept, or read and counted now, and kept.

    Args:
        dataset: ``<collection>/<version>``.
        images: all that are to be measured on.
        facts: where sightings are told.
    """
    collection, _, version = dataset.partition("/")
    key = dataset_key(collection, version, "traits.json")
    try:
        kept = (await TraitsRecord.load(store, key)).images
        if set(images) <= set(kept):
            return kept
    except NotFoundError:
        pass
    found: dict[str, Traits] = {}
    for start in range(0, len(images), CHUNK):
        chunk = images[start : start + CHUNK]
        data = await read_all([stored(store, image) for image in chunk])
        found |= dict(zip(chunk, await asyncio.to_thread(_look_at, data), strict=True))
    await _count_sightings(facts, collection, found)
    await TraitsRecord(images=found).save(store, key)
    return found


def look(data: bytes) -> Traits:
    """Colour and light of an encoded image. Raises ``RefusedImageError``."""
    image = decode_rgb(data, at_least=_SIDE)
    image.thumbnail((_SIDE, _SIDE))
    pixels = np.asarray(image, dtype=np.float32)
    # ITU-R BT.601, as Pillow's own conversion to grey.
    return Traits(chroma=float(np.ptp(pixels, axis=2).mean()), brightness=float((pixels @ np.array([0.299, 0.587, 0.114], np.float32)).mean()))


def _look_at(data: Sequence[bytes]) -> list[Traits]:
    return [look(encoded) for encoded in data]


async def _count_sightings(facts: Facts, collection: str, found: dict[str, Traits]) -> None:
    async for stored_fact in facts.replay(facts_pb2.Sighted, collection):
        sighting = stored_fact.fact
        if (traits := found.get(sighting.image)) is not None:
            traits.sightings += 1
            traits.source = traits.source or sighting.source
