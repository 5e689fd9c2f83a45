"""Holding back: the scrape pauses while a stage behind it has too much to do, or too many bytes wait in memory.

Streams refuse new facts when they are full (DESIGN: discard new); pausing before that keeps every download an outcome.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Iterator

import nats.errors
from cosmop_common.bus import Bus
from cosmop_common.topology import CONSUMERS

log = logging.getLogger(__name__)

_STAGES_BEHIND = ("dedup-hash", "dedup-index", "human-detector")
_POLL_SECONDS = 2.0
#: Goes on when the fullest stage has come down to this share of the mark.
_RESUME_AT = 0.8


class Pressure:
    """A gate that is closed while a consumer behind has more than ``high_water`` messages pending, and until that is known."""

    def __init__(self, bus: Bus, high_water: int) -> None:
        self._bus = bus
        self._high_water = high_water
        self._open = asyncio.Event()
        self._known = False

    @property
    def holding(self) -> bool:
        """Whether the scrape is held back now."""
        return self._known and not self._open.is_set()

    async def wait(self) -> None:
        """Returns when there is room behind."""
        await self._open.wait()

    async def watch(self) -> None:
        """Asks the consumers again and again; run it beside. Where NATS does not answer, the last word stands."""
        while True:
            try:
                await self.look()
            except (nats.errors.Error, TimeoutError) as error:
                if not self._known:
                    log.warning("how much waits behind the scrape is not known, it begins all the same: %r", error)
                    self._open.set()
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
        elif pending <= self._high_water * _RESUME_AT or not self._known:
            self._open.set()
        self._known = True


class Memory:
    """Bytes that are being downloaded, or wait to be verified and stored, and a bound on them.

    A body takes room as it grows. Where there is none it waits, and its server with it; one body at a time, the favoured
    one, grows on past the bound, so that all waiting for each other cannot happen. At most ``most`` and one body are held.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._held = 0
        self._favoured: Share | None = None
        self._waiting: list[asyncio.Future[None]] = []

    @property
    def held(self) -> int:
        """Bytes held now."""
        return self._held

    async def wait(self) -> None:
        """Returns when there is room for something."""
        while self._held >= self._most:
            await self.released()

    @contextlib.contextmanager
    def share(self, size: int = 0) -> Iterator[Share]:
        """Counts ``size`` bytes while inside, and those that the share grows by."""
        share = Share(self)
        share.take(size)
        try:
            yield share
        finally:
            self._give_back(share)

    def admits(self, share: Share, size: int) -> bool:
        """Whether a share may grow by ``size`` bytes now; the first that finds no room becomes the favoured one."""
        if self._held + size <= self._most:
            return True
        self._favoured = self._favoured or share
        return self._favoured is share

    def count(self, size: int) -> None:
        """Counts bytes in, or out."""
        self._held += size

    async def released(self) -> None:
        """Returns when something has been given back."""
        future = asyncio.get_running_loop().create_future()
        self._waiting.append(future)
        await future

    def _give_back(self, share: Share) -> None:
        self._held -= share.size
        if self._favoured is share:
            self._favoured = None
        waiting, self._waiting = self._waiting, []
        for future in waiting:
            if not future.done():
                future.set_result(None)


class Share:
    """The bytes of one body."""

    def __init__(self, memory: Memory) -> None:
        self._memory = memory
        self.size = 0

    def take(self, size: int) -> None:
        """Grows, whether there is room or not."""
        self._memory.count(size)
        self.size += size

    async def grow(self, size: int, clock: asyncio.Timeout) -> None:
        """Grows once there is room. The clock stands still meanwhile: that our stores are slow is not the server's fault."""
        if not self._memory.admits(self, size):
            loop = asyncio.get_running_loop()
            left = (clock.when() or loop.time()) - loop.time()
            clock.reschedule(None)
            while not self._memory.admits(self, size):
                await self._memory.released()
            clock.reschedule(loop.time() + left)
        self.take(size)
