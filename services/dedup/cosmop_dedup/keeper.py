"""The one writer of ``deduplicated``: keeps every collection's state, and publishes what changes in it.

Nothing decided is lost: an image whose decision changed stays in ``_unsaid`` until its fact is stored, and a process that
starts compares what it decides with what was said, so that it completes what a killed one began.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable

from cosmop_common.collection import Collection, DedupSettings
from cosmop_common.collections_kv import Collections
from cosmop_common.errors import InvalidInputError, NotFoundError
from cosmop_common.facts import Facts
from cosmop_common.pb.cosmop.v1 import facts_pb2

from cosmop_dedup.erased import Tombstones
from cosmop_dedup.image_rows import digest_of
from cosmop_dedup.state import CollectionState, Known

log = logging.getLogger(__name__)

Said = tuple[int, str, int, int]


class Keeper:
    """All collections of the index role. One per system: two would undo each other's words.

    Args:
        facts: where decisions are read and published.
        collections: whose settings say when two images are copies.
        tombstones: loaded; images in them take no part.
        publishers: facts published at once.
    """

    def __init__(self, facts: Facts, collections: Collections, tombstones: Tombstones, *, publishers: int = 32) -> None:
        self._facts = facts
        self._collections = collections
        self._tombstones = tombstones
        self._publishers = publishers
        self._states: dict[str, CollectionState] = {}
        self._unsaid: dict[tuple[str, str], None] = {}
        #: Highest sequence of a ``hashed`` fact ever seen: the cause of every decision.
        self._seen = 0
        self._lock = asyncio.Lock()

    async def rebuild(self) -> int:
        """Reads all ``hashed`` facts and decides; returns the number of images. ``catch_up`` belongs after it."""
        hashed = await self._read_hashed()
        for name, group in hashed.items():
            self._states[name] = await asyncio.to_thread(CollectionState, await self._rule(name), group)
        return sum(map(len, hashed.values()))

    async def hashed(self, fact: facts_pb2.Hashed, sequence: int) -> None:
        """Takes an arrival in. When it returns, all that it changed is published."""
        async with self._lock:
            self._seen = max(self._seen, sequence)
            if not self._tombstones.covers(fact.collection, fact.image):
                if fact.collection not in self._states:
                    self._states[fact.collection] = CollectionState(await self._rule(fact.collection))
                self._note(fact.collection, self._states[fact.collection].apply(Known(fact, sequence)))
            await self._publish()

    async def erased(self, fact: facts_pb2.Erased) -> None:
        """Takes an erased image out, and publishes who takes its place."""
        async with self._lock:
            state = self._states.get(fact.collection)
            if state is not None:
                self._note(fact.collection, state.erase(fact.image))
            await self._publish()

    async def rule_changed(self, collection: Collection) -> None:
        """Decides a collection anew where its settings say so."""
        async with self._lock:
            state = self._states.get(collection.name)
            if state is not None and state.rule != collection.dedup:
                self._states[collection.name] = state = await asyncio.to_thread(state.with_rule, collection.dedup)
                self._note(collection.name, state.images())
                log.info("decided anew", extra={"collection": collection.name, "distance": collection.dedup.distance, "images": len(state.images())})
            await self._publish()

    async def follow_rules(self, changes: asyncio.Queue[Collection]) -> None:
        """Takes changed collections in, without end."""
        while True:
            await self.rule_changed(await changes.get())

    async def catch_up(self) -> None:
        """Compares what is decided with what was said, and says what a predecessor left unsaid. Arrivals need not wait for it."""
        said = await self._read_said()
        async with self._lock:
            for name, state in self._states.items():
                self._note(name, (f.image for f in state.facts(name) if said.get((name, f.image)) != _words(f)))
            await self._publish()

    def state(self, collection: str) -> CollectionState:
        """A collection's images. Raises ``NotFoundError``."""
        try:
            return self._states[collection]
        except KeyError:
            raise NotFoundError(f"no image of collection {collection!r} was hashed yet: check its name, or scrape first") from None

    def _note(self, collection: str, images: Iterable[str]) -> None:
        for image in images:
            self._unsaid[collection, image] = None

    async def _publish(self) -> None:
        """Publishes all that is unsaid. What fails stays unsaid, and is raised."""
        while self._unsaid:
            batch = [key for key, _ in zip(self._unsaid, range(self._publishers), strict=False)]
            outcomes = await asyncio.gather(*(self._say(*key) for key in batch), return_exceptions=True)
            for key, outcome in zip(batch, outcomes, strict=True):
                if outcome is None:
                    del self._unsaid[key]
            for outcome in outcomes:
                if outcome is not None:
                    raise outcome

    async def _say(self, collection: str, image: str) -> None:
        fact = self._states[collection].fact(collection, image, self._seen)
        if fact is not None:
            await self._facts.put(fact)

    async def _rule(self, collection: str) -> DedupSettings:
        try:
            return (await self._collections.get(collection)).dedup
        except NotFoundError:
            log.warning("no settings for collection %s: its images count as copies at distance 0", collection)
            return DedupSettings()

    async def _read_hashed(self) -> dict[str, list[Known]]:
        groups: dict[str, list[Known]] = {}
        async for stored in self._facts.replay(facts_pb2.Hashed):
            self._seen = max(self._seen, stored.sequence)
            try:
                digest_of(stored.fact.image)
            except InvalidInputError as error:
                # When it arrived it became a dead letter; it must not keep the index from starting ever after.
                log.warning("a hashed fact is left out: %s", error)
                continue
            if not self._tombstones.covers(stored.fact.collection, stored.fact.image):
                groups.setdefault(stored.fact.collection, []).append(Known(stored.fact, stored.sequence))
        return groups

    async def _read_said(self) -> dict[tuple[str, str], Said]:
        said = {}
        async for stored in self._facts.replay(facts_pb2.Deduplicated):
            self._seen = max(self._seen, stored.fact.cause)
            said[stored.fact.collection, stored.fact.image] = _words(stored.fact)
        return said


def _words(fact: facts_pb2.Deduplicated) -> Said:
    return fact.kind, fact.kept, fact.distance, fact.threshold
