"""How fast one host is asked: requests spread evenly in time, a bound on connections, and backing off when it complains.

A host that answers nobody any more is left alone for a while, and one that asks for a longer wait than a job has patience
for is given up at once: their URLs fail at once, so that one dead host never holds up the living.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Protocol

from cosmop_scraper.errors import FetchError, HostDownError

#: How far the pace may run ahead to make up for late timers, in seconds.
_SLACK = 0.02
_FIRST_BACKOFF = 1.0
_LONGEST_BACKOFF = 120.0
#: Requests in a row without an answer after which a host counts as down, and for how long at first and at most.
_DEAD_AFTER = 6
_FIRST_DOWN = 60.0
_LONGEST_DOWN = 3600.0
_MOST_HOSTS = 20_000
_IDLE_SECONDS = 600.0


class Company(Protocol):
    """Other scrapers that ask the same hosts (``peers``)."""

    #: Called with a host and seconds when another scraper is told to hold back.
    on_complaint: Callable[[str, float], None]

    def sharing(self, host: str) -> int:
        """How many scrapers are busy with a host, this one included."""
        ...

    def turn(self, host: str) -> int:
        """This scraper's place among them, from 0."""
        ...

    async def arrive(self, host: str) -> bool:
        """Called before each request to a host; says whether it was new."""
        ...

    def depart(self, host: str, pace: float) -> None:
        """Called when no request to a host waits or is on its way any more; ``pace``: seconds between our requests to it."""
        ...

    async def complain(self, host: str, seconds: float) -> None:
        """Tells the others that a host wants to be left alone for so long."""
        ...


class Alone:
    """No company: a scraper that has its hosts to itself."""

    def __init__(self) -> None:
        self.on_complaint: Callable[[str, float], None] = lambda _host, _seconds: None

    def sharing(self, host: str) -> int:  # noqa: ARG002 - the interface of all company
        """One."""
        return 1

    def turn(self, host: str) -> int:  # noqa: ARG002
        """The first."""
        return 0

    async def arrive(self, host: str) -> bool:  # noqa: ARG002
        """Nobody needs to know."""
        return False

    def depart(self, host: str, pace: float) -> None:
        """Nobody needs to know."""

    async def complain(self, host: str, seconds: float) -> None:
        """Nobody needs to know."""


@dataclass
class _Host:
    slots: asyncio.Semaphore
    interval: float
    #: When the next request may leave (monotonic).
    next_at: float = 0.0
    #: Until when it asked to be left alone (monotonic).
    held_until: float = 0.0
    #: Complaints in a row.
    strikes: int = 0
    #: How much slower than asked for, 1 is full speed; doubled by a complaint, won back by answers.
    slowness: float = field(default=1.0)
    #: Who wait for their turn or are being answered.
    visitors: int = 0
    #: Requests in a row without an answer.
    unanswered: int = 0
    #: Until when it counts as down.
    down_until: float = 0.0
    used_at: float = 0.0


class Politeness:
    """Per-host pace and concurrency of one scraper.

    Args:
        rate: requests per second towards one host.
        connections: requests in flight towards one host.
        company: other scrapers, with whom the rate of each host is shared.
        patience: longest wait in seconds that a host may ask for before it is given up.
    """

    def __init__(self, rate: float, connections: int, company: Company | None = None, patience: float = 300.0) -> None:
        self._company = company or Alone()
        self._company.on_complaint = self._hold
        self._interval = 1.0 / rate
        self._connections = connections
        self._patience = patience
        self._hosts: dict[str, _Host] = {}
        self._told: set[asyncio.Task[None]] = set()

    @contextlib.asynccontextmanager
    async def slot(self, host: str) -> AsyncIterator[None]:
        """Waits for the host's turn; holds one of its connections inside, and learns from what becomes of the request.

        Raises:
            HostDownError: it has not answered for a while, or asks for a longer wait than there is patience for.
        """
        state = self._state(host)
        state.visitors += 1
        try:
            _check(host, state, self._patience)
            async with state.slots:
                _check(host, state, self._patience)
                if await self._company.arrive(host):
                    state.next_at = max(state.next_at, time.monotonic() + state.interval * state.slowness * self._company.turn(host))
                await self._turn(host, state)
                try:
                    yield
                except FetchError as error:
                    _learn(state, error)
                    raise
                _learn(state, None)
        finally:
            state.visitors -= 1
            state.used_at = time.monotonic()
            if not state.visitors:
                self._company.depart(host, state.interval * state.slowness * self._company.sharing(host))

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
        self._hold(host, wait)
        told = asyncio.ensure_future(self._company.complain(host, wait))
        self._told.add(told)
        told.add_done_callback(self._told.discard)
        return wait

    def content(self, host: str) -> None:
        """The host answered well: the pace comes back, a little with each answer."""
        state = self._state(host)
        state.strikes = 0
        state.slowness = max(1.0, state.slowness * 0.9)

    def forgive(self) -> None:
        """What looked like dead hosts was the network: they are asked again."""
        for state in self._hosts.values():
            state.unanswered, state.down_until = 0, 0.0

    def _hold(self, host: str, seconds: float) -> None:
        state = self._state(host)
        state.held_until = max(state.held_until, time.monotonic() + seconds)
        state.next_at = max(state.next_at, state.held_until)

    async def _turn(self, host: str, state: _Host) -> None:
        # A turn is taken only once it has come, so that a complaint of meanwhile holds back those who wait, too.
        while (wait := state.next_at - time.monotonic()) > 0:
            _check(host, state, self._patience)
            await asyncio.sleep(wait)
        state.next_at = max(state.next_at, time.monotonic() - _SLACK) + state.interval * state.slowness * self._company.sharing(host)

    def _state(self, host: str) -> _Host:
        if host not in self._hosts:
            if len(self._hosts) >= _MOST_HOSTS:
                self._forget()
            self._hosts[host] = _Host(asyncio.Semaphore(self._connections), self._interval, used_at=time.monotonic())
        return self._hosts[host]

    def _forget(self) -> None:
        """Lets go of hosts that nothing is known of but that they exist, so that weeks of new ones do not fill the memory."""
        now = time.monotonic()
        self._hosts = {h: s for h, s in self._hosts.items() if s.visitors or max(s.used_at + _IDLE_SECONDS, s.next_at, s.down_until) > now}


def _check(host: str, state: _Host, patience: float) -> None:
    now = time.monotonic()
    if state.down_until > now:
        raise HostDownError(f"{host} has not answered {state.unanswered} requests in a row: it is asked again in {state.down_until - now:.0f} s")
    if state.held_until - now > patience:
        raise HostDownError(f"{host} asks to be left alone for {state.held_until - now:.0f} s, longer than COSMOP_MAX_RETRY_AFTER")


def _learn(state: _Host, error: FetchError | None) -> None:
    """A host that answers, or refuses, is there; one that cannot be reached again and again is not."""
    if error is None or error.why not in {"unreachable", "timeout"}:
        state.unanswered, state.down_until = 0, 0.0
        return
    state.unanswered += 1
    if state.unanswered >= _DEAD_AFTER:
        state.down_until = time.monotonic() + min(_FIRST_DOWN * 2 ** (state.unanswered - _DEAD_AFTER), _LONGEST_DOWN)
