"""Waiting out what passes: a network that is away, a store that is full or away. A scrape that runs for a week meets both.

Without it an hour without DNS would count each candidate of that hour as failed, and a store that is restarted would end
the job. A host that is away is no such thing (``politeness``): the two are told apart by asking a host that answered before.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from cosmop_common.errors import StorageFullError, UnreachableError

from cosmop_scraper.addresses import GuardedBackend
from cosmop_scraper.errors import FetchError, WireError
from cosmop_scraper.fetch import Fetched, Fetcher
from cosmop_scraper.url import parse_url

log = logging.getLogger(__name__)
T = TypeVar("T")

#: A network is suspected when so many hosts in a row could not be reached, without one that could.
_SUSPICIOUS = 2
_PROBE_SECONDS = 5.0
_FIRST_WAIT, _LONGEST_WAIT = 2.0, 60.0
_AWAY = {"unreachable", "timeout", "host_down"}


class Network:
    """Tells a host that is away from a network that is away.

    Args:
        backend: connects.
        on_back: called when the network is back.
        most_seconds: longest wait of one outage.
    """

    def __init__(self, backend: GuardedBackend, on_back: Callable[[], None], most_seconds: float) -> None:
        self._backend = backend
        self._on_back = on_back
        self._most_seconds = most_seconds
        #: A host that has answered, and its port.
        self._known: tuple[str, int] | None = None
        self._failed: set[str] = set()
        self._lock = asyncio.Lock()
        self._back_at = float("-inf")
        #: Whether an outage is being waited out now.
        self.away = False

    def answered(self, host: str, port: int) -> None:
        """A host has answered: it is the one to ask when others do not."""
        self._known = (host, port)
        self._failed.clear()

    async def was_away(self, host: str, since: float) -> bool:
        """After a request that began at ``since`` (monotonic) could not reach its host: waits while the network is away.

        Returns:
            Whether it was: then the request deserves another try.
        """
        self._failed.add(host)
        async with self._lock:
            if since < self._back_at:
                return True
            if self._known is None or len(self._failed) < _SUSPICIOUS:
                return False
            if await self._reaches(*self._known):
                self._failed.clear()
                return False
            return await self._wait()

    async def _wait(self) -> bool:
        log.warning("the network is away (%s cannot be reached, nor can a host that has answered before): the scrape waits", ", ".join(sorted(self._failed)))
        self.away, wait, deadline = True, _FIRST_WAIT, time.monotonic() + self._most_seconds
        try:
            while time.monotonic() < deadline:
                await asyncio.sleep(wait)
                # Somebody else may have been answered meanwhile: then that host is known, and reached.
                if self._known is not None and await self._reaches(*self._known):
                    log.warning("the network is back")
                    self._failed.clear()
                    self._back_at = time.monotonic()
                    self._on_back()
                    return True
                wait = min(wait * 2, _LONGEST_WAIT)
            return False
        finally:
            self.away = False

    async def _reaches(self, host: str, port: int) -> bool:
        try:
            stream = await self._backend.connect_tcp(host, port, _PROBE_SECONDS)
        except (FetchError, WireError, OSError):
            return False
        await stream.aclose()
        return True


@dataclass
class PatientFetcher(Fetcher):
    """A fetcher that waits while the network is away, and then goes on."""

    network: Network = field(init=False)

    def __post_init__(self) -> None:
        """Connects when it is used."""
        super().__post_init__()
        self.network = Network(self.backend, self.politeness.forgive, self.settings.outage_seconds)

    async def get(self, url: str, *, max_bytes: int, accept: str = "*/*", headers: Mapping[str, str] | None = None, robots: bool = True) -> Fetched:
        """As ``Fetcher.get``; what fails because the network is away is tried again when it is back."""
        while True:
            began = time.monotonic()
            try:
                answer = await super().get(url, max_bytes=max_bytes, accept=accept, headers=headers, robots=robots)
            except FetchError as error:
                if error.why in _AWAY and await self.network.was_away(parse_url(url).netloc, began):
                    continue
                raise
            final = parse_url(answer.url)
            self.network.answered(final.ascii_host, final.port)
            return answer


class StorePatience:
    """Tries again to store and to publish while the stores are full or away, for so long in all."""

    def __init__(self, most_seconds: float) -> None:
        self._most_seconds = most_seconds
        #: What is waited for, in words; empty while nothing is.
        self.waiting_for = ""

    async def insist(self, work: Callable[[], Awaitable[T]], ends: Callable[[], bool]) -> T:
        """Does what stores or publishes something.

        Args:
            ends: whether there is no time to wait any more.

        Raises:
            StorageFullError, UnreachableError: it was full or away for longer than there is patience for.
        """
        deadline, wait = time.monotonic() + self._most_seconds, _FIRST_WAIT
        while True:
            try:
                done = await work()
            except (StorageFullError, UnreachableError) as error:
                if ends() or time.monotonic() + wait > deadline:
                    raise
                if not self.waiting_for:
                    log.warning("the scrape waits: %s", error)
                self.waiting_for = str(error)
                await asyncio.sleep(wait)
                wait = min(wait * 2, _LONGEST_WAIT)
            else:
                self.waiting_for = ""
                return done
