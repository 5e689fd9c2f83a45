"""The consumers: ``scraped`` in, ``hashed`` out (role hash); ``hashed`` in, ``deduplicated`` out (role index)."""

from __future__ import annotations

import asyncio

from cosmop_common.collections_kv import Collections
from cosmop_common.consume import Delivery
from cosmop_common.errors import NotFoundError, RefusedImageError
from cosmop_common.facts import Facts
from cosmop_common.images import MAX_PIXELS
from cosmop_common.pb.cosmop.v1 import facts_pb2
from cosmop_common.store import Store

from cosmop_dedup.embedder import EMBEDDER, embed
from cosmop_dedup.erased import Tombstones
from cosmop_dedup.flat import FLAT_BELOW
from cosmop_dedup.hashing import hash_image
from cosmop_dedup.keeper import Keeper
from cosmop_dedup.phash import ALGORITHM


class HashWorker:
    """Role hash: stateless, as many as one likes."""

    def __init__(self, facts: Facts, store: Store, collections: Collections, tombstones: Tombstones) -> None:
        self._facts = facts
        self._store = store
        self._collections = collections
        self._tombstones = tombstones

    async def scraped(self, scraped: facts_pb2.Scraped, delivery: Delivery) -> None:
        """Hashes an image that was stored; one that was refused ends with the fact that refused it."""
        if scraped.HasField("refusal") or self._tombstones.covers(scraped.collection, scraped.image):
            return
        try:
            data = await self._store.get_image(scraped.image)
        except NotFoundError:
            if await self._tombstones.confirm(scraped.collection, scraped.image):
                return
            raise
        max_pixels, grey = await self._asked(scraped.collection)
        fact = await asyncio.to_thread(hashed_fact, data, max_pixels, embedded=grey)
        fact.collection, fact.image, fact.cause = scraped.collection, scraped.image, delivery.sequence
        if not self._tombstones.covers(scraped.collection, scraped.image):
            await self._facts.put(fact)

    async def _asked(self, collection: str) -> tuple[int, bool]:
        """The collection's largest image in pixels, and whether its grey zone needs embeddings."""
        try:
            settings = await self._collections.get(collection)
        except NotFoundError:
            return MAX_PIXELS, False
        return settings.scrape.max_pixels, settings.dedup.grey_distance > 0


def hashed_fact(data: bytes, max_pixels: int = MAX_PIXELS, *, embedded: bool = False) -> facts_pb2.Hashed:
    """What is said of an image's bytes: its hash, or why there is none; its embedding where that is asked for. CPU-bound."""
    fact = facts_pb2.Hashed(size=len(data), algorithm=ALGORITHM)
    try:
        hashed = hash_image(data, max_pixels=max_pixels)
    except RefusedImageError as error:
        fact.refusal.CopyFrom(error.refusal())
        return fact
    fact.phash, fact.width, fact.height = hashed.phash, hashed.width, hashed.height
    fact.turned.extend(hashed.symmetric[1:])
    if hashed.flat:
        fact.refusal.CopyFrom(
            facts_pb2.Refusal(
                reason=facts_pb2.REFUSAL_REASON_FLAT,
                detail=f"blank or flat: {hashed.contrast:.1f} grey levels of contrast; {FLAT_BELOW} are needed to tell copies",
            )
        )
    elif embedded:
        fact.embedder, fact.embedding = EMBEDDER, embed(data)
    return fact


class IndexWorker:
    """Role index: one in the whole system, one message at a time."""

    def __init__(self, keeper: Keeper) -> None:
        self._keeper = keeper

    async def hashed(self, hashed: facts_pb2.Hashed, delivery: Delivery) -> None:
        """Decides what the arrival changes."""
        await self._keeper.hashed(hashed, delivery.sequence)
