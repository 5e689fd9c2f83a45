"""Tombstones: which images must not be used any more, known in memory."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from cosmop_common.facts import Facts
from cosmop_common.pb.cosmop.v1 import facts_pb2


class Tombstones:
    """All erased images, as (collection, image): those at start, and each new one."""

    def __init__(self, facts: Facts) -> None:
        self._facts = facts
        self._erased: set[tuple[str, str]] = set()
        self._read = 0

    async def load(self) -> None:
        """Reads those that the stream holds now."""
        async for stored in self._facts.replay(facts_pb2.Erased):
            self._add(stored.fact, stored.sequence)

    async def follow(self, then: Callable[[facts_pb2.Erased], Awaitable[None]] | None = None) -> None:
        """Goes on from there, without end. ``then`` is called after each new one is known here."""
        async for stored in self._facts.follow(facts_pb2.Erased, after=self._read):
            self._add(stored.fact, stored.sequence)
            if then is not None:
                await then(stored.fact)

    def covers(self, collection: str, image: str) -> bool:
        """Whether an image is known to be erased."""
        return (collection, image) in self._erased

    async def confirm(self, collection: str, image: str) -> bool:
        """The same, asked of NATS: for who found the bytes gone, perhaps a moment before the tombstone came here."""
        return self.covers(collection, image) or await self._facts.last(facts_pb2.Erased, collection, image) is not None

    def _add(self, fact: facts_pb2.Erased, sequence: int) -> None:
        self._erased.add((fact.collection, fact.image))
        self._read = max(self._read, sequence)
