"""How fast one host is asked: requests spread evenly in time, a bound on connections, and backing off when it complains."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Protocol

#: How far the pace may run ahead to make up for late timers, in seconds.
_SLACK = 0.02
_FIRST_BACKOFF = 1.0
_LONGEST_BACKOFF = 120.0


class Company(Protocol):
    """Other scrapers that ask the same hosts (``peers``)."""

    def sharing(self, host: str) -> int:
        """How many scrapers are busy with a host, this one included."""
        ...

    async def arrive(self, host: str) -> None:
        """Called before each request to a host."""
        ...


class Alone:
    """No company: a scraper that has its hosts to itself."""

    def sharing(self, host: str) -> int:  # noqa: ARG002 - the interface of all company
        """One."""
        return 1

    async def arrive(self, host: str) -> None:
        """Nobody needs to know."""


@dataclass
class _Host:
    slots: asyncio.Semaphore
    interval: float
    #: When the next request may leave (monotonic).
    next_at: float = 0.0
    #: Complaints in a row.
    strikes: int = 0
    #: How much slower than asked for, 1 is full speed; doubled by a complaint, won back by answers.
    slowness: float = field(default=1.0)


class Politeness:
    """Per-host pace and concurrency of one scraper.

    Args:
        rate: requests per second towards one host.
        connections: requests in flight towards one host.
        company: other scrapers, with whom the rate of each host is shared.
    """

    def __init__(self, rate: float, connections: int, company: Company | None = None) -> None:
        self._company = company or Alone()
        self._interval = 1.0 / rate
        self._connections = connections
        self._hosts: dict[str, _Host] = {}

    @contextlib.asynccontextmanager
    async def slot(self, host: str) -> AsyncIterator[None]:
        """Waits for the host's turn; holds one of its connections inside."""
        state = self._state(host)
        async with state.slots:
            await self._company.arrive(host)
            await self._turn(host, state)
            yield

    def crawl_delay(self, host: str, seconds: float) -> None:
        """What robots.txt asks for; only ever slows down."""
        state = self._state(host)
        state.interval = max(state.interval, seconds)

    def complain(self, host: str, retry_after: float | None) -> float:
        """The host is overloaded: nobody asks it before the wait that is returned is over."""
        state = self._state(host)
        wait = min(_FIRST_BACKOFF * 2**state.strikes, _LONGEST_BACKOFF) if retry_after is None else retry_after
        state.strikes += 1
        state.slowness = min(state.slowness * 2, 64.0)
        state.next_at = max(state.next_at, time.monotonic() + wait)
        return wait

    def content(self, host: str) -> None:
        """The host answered well: the pace comes back, a little with each answer."""
        state = self._state(host)
        state.strikes = 0
        state.slowness = max(1.0, state.slowness * 0.9)

    async def _turn(self, host: str, state: _Host) -> None:
        # A turn is taken only once it has come, so that a complaint of meanwhile holds back those who wait, too.
        while (wait := state.next_at - time.monotonic()) > 0:  # noqa: ASYNC110 - a time is waited for, not an event
            await asyncio.sleep(wait)
        state.next_at = max(state.next_at, time.monotonic() - _SLACK) + state.interval * state.slowness * self._company.sharing(host)

    def _state(self, host: str) -> _Host:
        if host not in self._hosts:
            self._hosts[host] = _Host(asyncio.Semaphore(self._connections), self._interval)
        return self._hosts[host]
