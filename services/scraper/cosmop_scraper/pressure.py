"""Holding back: the scrape pauses while a stage behind it has too much to do, or too many bytes wait in memory.

Streams refuse new facts when they are full (DESIGN: discard new); pausing before that keeps every download an outcome.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator

import nats.errors
from cosmop_common.bus import Bus
from cosmop_common.topology import CONSUMERS

log = logging.getLogger(__name__)

_STAGES_BEHIND = ("dedup-hash", "dedup-index", "human-detector")
_POLL_SECONDS = 2.0
#: Goes on when the fullest stage has come down to this share of the mark.
_RESUME_AT = 0.8


class Pressure:
    """A gate that is closed while a consumer behind has more than ``high_water`` messages pending."""

    def __init__(self, bus: Bus, high_water: int) -> None:
        self._bus = bus
        self._high_water = high_water
        self._open = asyncio.Event()
        self._open.set()

    @property
    def holding(self) -> bool:
        """Whether the scrape is held back now."""
        return not self._open.is_set()

    async def wait(self) -> None:
        """Returns when there is room behind."""
        await self._open.wait()

    async def watch(self) -> None:
        """Asks the consumers again and again; run it beside."""
        while True:
            with contextlib.suppress(nats.errors.Error, TimeoutError):
                await self.look()
            await asyncio.sleep(_POLL_SECONDS)

    async def look(self) -> None:
        """Asks the consumers once, and opens or closes the gate."""
        pending = 0
        for name in _STAGES_BEHIND:
            info = await self._bus.js.consumer_info(CONSUMERS[name].stream, name)
            pending = max(pending, (info.num_pending or 0) + (info.num_ack_pending or 0))
        if pending > self._high_water:
            if not self.holding:
                log.info("the scrape pauses: %d messages wait behind it (COSMOP_HIGH_WATER is %d)", pending, self._high_water)
            self._open.clear()
        elif pending <= self._high_water * _RESUME_AT:
            self._open.set()


class Memory:
    """Bytes downloaded and not yet stored. A gate and no reservation: sizes are known only afterwards."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._held = 0
        self._changed = asyncio.Condition()

    async def wait(self) -> None:
        """Returns when there is room."""
        async with self._changed:
            await self._changed.wait_for(lambda: self._held < self._most)

    @contextlib.asynccontextmanager
    async def holding(self, size: int) -> AsyncIterator[None]:
        """Counts ``size`` bytes while inside."""
        self._held += size
        try:
            yield
        finally:
            self._held -= size
            async with self._changed:
                self._changed.notify_all()
