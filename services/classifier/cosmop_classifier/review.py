"""Answers that a model was unsure of go before people: a fact ``classified`` puts the image first in the labelling queue.

The answer never waits for it: notes are worked off beside, a bounded number of them, and one that finds no room is dropped and
counted. What is new is stored only where a setting says so: callers' images are theirs.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from dataclasses import dataclass
from typing import Literal

from cosmop_common.errors import CosmopError
from cosmop_common.facts import Facts, now
from cosmop_common.images import inspect
from cosmop_common.names import sha256_hex
from cosmop_common.pb.cosmop.v1 import facts_pb2
from cosmop_common.store import Store

from cosmop_classifier.metrics import REVIEWS
from cosmop_classifier.served import ServedModel, Verdict

log = logging.getLogger(__name__)

Mode = Literal["off", "known", "all"]
#: The ``source`` of images that came in by the endpoint.
SOURCE = "endpoint"
_WAITING = 64
_REMEMBERED = 10_000


@dataclass(frozen=True)
class _Note:
    data: bytes
    model: ServedModel
    verdict: Verdict


class Review:
    """Takes notes of uncertain answers. ``run`` works them off: background work of the serving process."""

    def __init__(self, facts: Facts, store: Store, mode: Mode) -> None:
        """Prepares.

        Args:
            mode: ``off``: nobody is asked. ``known``: only about images that the collection holds already. ``all``: other images are
                stored, and go the way of every image (deduplicated, screened), before people see them.
        """
        self._facts, self._store, self._mode = facts, store, mode
        self._notes: asyncio.Queue[_Note | None] = asyncio.Queue(_WAITING)
        self._said: OrderedDict[tuple[str, str], None] = OrderedDict()

    def note(self, data: bytes, model: ServedModel, verdict: Verdict) -> None:
        """Takes note of an answer where it is uncertain. Never waits."""
        if self._mode == "off" or not verdict.uncertain:
            return
        try:
            self._notes.put_nowait(_Note(data, model, verdict))
        except asyncio.QueueFull:
            REVIEWS.labels(model.card.name, "dropped").inc()

    async def run(self, stopping: asyncio.Event) -> None:
        """Works off the notes until ``stopping``, and then those that are there."""

        async def end() -> None:
            await stopping.wait()
            await self._notes.put(None)

        ending = asyncio.create_task(end())
        try:
            while (note := await self._notes.get()) is not None:
                await self._work(note)
        finally:
            ending.cancel()

    async def _work(self, note: _Note) -> None:
        name = note.model.card.name
        try:
            outcome = await self._ask_people(note)
        except CosmopError as error:
            log.warning("an uncertain answer of %s reaches nobody: %s", name, error)
            outcome = "failed"
        REVIEWS.labels(name, outcome).inc()

    async def _ask_people(self, note: _Note) -> str:
        card = note.model.card
        image, model = sha256_hex(note.data), f"{card.name}/{card.version}"
        if (image, model) in self._said:
            return "repeated"
        if await self._facts.last(facts_pb2.Erased, card.collection, image) is not None:
            return "erased"
        scraped = await self._facts.last(facts_pb2.Scraped, card.collection, image)
        if scraped is None:
            if self._mode != "all":
                return "unknown"
            await self._take_in(note, image)
        await self._facts.put(
            facts_pb2.Classified(collection=card.collection, image=image, model=model, probability=note.verdict.score, threshold=card.threshold, uncertain=True)
        )
        self._said[image, model] = None
        if len(self._said) > _REMEMBERED:
            self._said.popitem(last=False)
        return "queued"

    async def _take_in(self, note: _Note, image: str) -> None:
        """Stores a caller's image and says ``scraped`` and ``sighted``, as the scraper does: from there on it is one like all."""
        info = await asyncio.to_thread(inspect, note.data)
        await self._store.put_image(note.data, info.media_type)
        collection = note.model.card.collection
        sighting = facts_pb2.Sighted(
            collection=collection,
            image=image,
            at=now(),
            source=SOURCE,
            image_url=f"{SOURCE}:{image}",
            content_type=info.media_type,
            robots=facts_pb2.ROBOTS_DECISION_NOT_APPLICABLE,
        )
        scraped = facts_pb2.Scraped(
            collection=collection,
            image=image,
            at=sighting.at,
            size=len(note.data),
            media_type=info.media_type,
            width=info.width,
            height=info.height,
            sighting=sighting,
        )
        await self._facts.create(scraped)
        await self._facts.create(sighting)
