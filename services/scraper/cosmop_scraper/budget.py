"""How much a run may still fetch: images, bytes, seconds."""

from __future__ import annotations

import asyncio
import time


class Budget:
    """Admits downloads while there is budget. 0 is no bound.

    Images are counted when they turn out to be new; while the last ones are on their way nobody else starts, so that
    the bound is met and not passed. Bytes and seconds are known only afterwards: what is on its way then ends well.
    """

    def __init__(self, *, images: int, size: int, seconds: float, new: int = 0, fetched: int = 0) -> None:
        """Takes over what earlier attempts of the same run have used: ``new`` images, ``fetched`` bytes."""
        self._images, self._size = images, size
        self._deadline = time.monotonic() + seconds if seconds else None
        self._new, self._fetched, self._in_flight = new, fetched, 0
        self._changed = asyncio.Condition()

    async def admit(self) -> bool:
        """Waits until it is clear whether one more may start; returns whether it may. Then ``settle`` it."""
        async with self._changed:
            await self._changed.wait_for(lambda: self.spent or not self._images or self._new + self._in_flight < self._images)
            if self.spent:
                return False
            self._in_flight += 1
            return True

    async def settle(self, *, new: bool, size: int) -> None:
        """One that was admitted has ended."""
        async with self._changed:
            self._in_flight -= 1
            self._new += new
            self._fetched += size
            self._changed.notify_all()

    @property
    def spent(self) -> str:
        """Which budget is used up, in words; empty while there is some."""
        if self._images and self._new >= self._images:
            return f"{self._images} images reached"
        if self._size and self._fetched >= self._size:
            return f"{self._size:,} bytes reached"
        if self._deadline is not None and time.monotonic() >= self._deadline:
            return "time budget reached"
        return ""
