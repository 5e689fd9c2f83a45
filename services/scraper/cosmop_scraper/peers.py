"""The other scrapers that run now: hosts are shared with them, and no URL is fetched by two.

No server keeps the shares. Each job process says on NATS which hosts it is busy with, at once when it turns to a new one
and twice a second; whoever hears it asks that host so much slower: with n scrapers at a host each takes 1/n of the rate.
A newcomer waits for the answers of those who are there before its first request, so that the limit holds while it joins.
One that dies is forgotten once it has been silent for a few seconds in which our own words came back to us: where NATS is
away everybody is silent, and the shares stay as they were. What a host complains of to one, all hold back for.

A URL is claimed before it is fetched, by a word that all scrapers of the collection hear. NATS does not bring two words to
all in the same order, so that a claim counts only when a moment has passed in which nobody objects: of those who claim at
once the lowest id has it, and who has it already says so. A newcomer is told which ones are on their way.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import secrets
import time
from collections.abc import Callable, Iterable, Sequence

import nats.errors
from cosmop_common.bus import Bus
from cosmop_common.names import token
from cosmop_common.tasks import end_tasks
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

log = logging.getLogger(__name__)

_HOSTS_SUBJECT = "cosmop.scrapers.hosts"
_BEAT_SECONDS = 0.5
#: A host counts as busy for at least so long after its last request.
_BUSY_SECONDS = 10.0
_FORGOTTEN_SECONDS = 3.0
_ARRIVAL_SECONDS = 0.2
#: How long after its own claim came back a scraper listens for others, and how long it waits for that.
_OBJECTION_SECONDS = 0.05
_ECHO_SECONDS = 10.0
#: Words about URLs: "which are on their way?", "I claim", "I have".
_ASK, _CLAIM, _HAVE = b"?", b"c", b"h"
_MOST_HOSTS = 2000
_TAKEN_SECONDS = 60.0
_ME_BYTES, _DIGEST_BYTES = 16, 8
#: Digests in one message: 400 kB, under NATS's megabyte.
_CLAIMS_PER_MESSAGE = 50_000


class Peers:
    """This scraper's place among the others. Make it with ``Peers.join``; ``leave`` it."""

    def __init__(self, bus: Bus, collection: str, hear: Callable[[bytes], None]) -> None:
        self._bus = bus
        self._me = secrets.token_hex(_ME_BYTES // 2)
        self._claims_subject = f"cosmop.scrapers.urls.{token(collection)}"
        self._hear = hear
        #: Called with a host and seconds when another scraper is told to hold back.
        self.on_complaint: Callable[[str, float], None] = lambda _host, _seconds: None
        #: Host, and until when it counts as busy (monotonic); infinite while a request waits or is on its way.
        self._busy: dict[str, float] = {}
        #: When those who are busy with a host have had time to say so.
        self._answered_at: dict[str, float] = {}
        #: Host, other scraper, when it was last heard of.
        self._others: dict[str, dict[str, float]] = {}
        #: When our own words last came back to us: NATS carried them then.
        self._echo_at = time.monotonic()
        #: Claims of ours that are not decided yet; False: somebody else has it.
        self._claims: dict[bytes, bool] = {}
        self._echoes: dict[bytes, asyncio.Future[None]] = {}
        self._holding: set[bytes] = set()
        #: URLs that others have claimed lately, and when; what was long ago is a fact by now.
        self._taken: dict[bytes, float] = {}
        #: When any other scraper was last heard of; a newcomer does not take itself to be alone.
        self._company_at = time.monotonic()
        self._subscriptions: list[Subscription] = []
        self._task: asyncio.Task[None] | None = None

    @classmethod
    async def join(cls, bus: Bus, collection: str, hear: Callable[[bytes], None]) -> Peers:
        """Begins to listen and to speak; ``hear`` is told each URL's digest that another scraper has claimed."""
        peers = cls(bus, collection, hear)
        peers._subscriptions.append(await bus.client.subscribe(_HOSTS_SUBJECT, cb=peers._on_hosts))
        peers._subscriptions.append(await bus.client.subscribe(peers._claims_subject, cb=peers._on_claims))
        await peers._word(_ASK)
        await bus.client.flush()
        await asyncio.sleep(_ARRIVAL_SECONDS)
        peers._task = asyncio.create_task(peers._beat())
        return peers

    async def leave(self) -> None:
        """Says goodbye, so that the others need not wait to forget us."""
        if self._task is not None:
            await end_tasks([self._task])
        self._busy.clear()
        with contextlib.suppress(nats.errors.Error):
            await self._say()
            for subscription in self._subscriptions:
                await subscription.unsubscribe()

    def sharing(self, host: str) -> int:
        """How many scrapers are busy with a host, this one included."""
        return 1 + len(self._company(host))

    def turn(self, host: str) -> int:
        """This scraper's place among those who are busy with a host, from 0: who comes together does not ask together."""
        return sum(peer < self._me for peer in self._company(host))

    async def arrive(self, host: str) -> bool:
        """Called before each request to a host: a new one is announced, and those who are there get time to say so.

        Returns:
            Whether the host was new.
        """
        now = time.monotonic()
        fresh = self._busy.get(host, 0.0) < now
        self._busy[host] = float("inf")
        if fresh:
            self._answered_at[host] = now + _ARRIVAL_SECONDS
            with contextlib.suppress(nats.errors.Error):
                await self._say([host], asks=True)
        if (wait := self._answered_at.get(host, 0.0) - time.monotonic()) > 0:
            await asyncio.sleep(wait)
        return fresh

    def depart(self, host: str, pace: float) -> None:
        """No request to a host waits or is on its way any more; with ``pace`` seconds between requests it may be asked again soon."""
        self._busy[host] = time.monotonic() + max(_BUSY_SECONDS, 2 * pace)

    async def complain(self, host: str, seconds: float) -> None:
        """Tells the others that a host wants to be left alone for so long."""
        with contextlib.suppress(nats.errors.Error):
            await self._publish({"hosts": [host], "asks": False, "holds": seconds})

    async def claim(self, digest: bytes) -> bool:
        """Whether this scraper may fetch a URL. Where NATS is away, it may: facts are idempotent. Then ``settle`` it."""
        if digest in self._taken or digest in self._claims:
            return False
        self._claims[digest] = True
        try:
            if await self._echoed(digest, wait=not self._alone) and not self._alone:
                await asyncio.sleep(_OBJECTION_SECONDS)
                await self._echoed(digest, wait=True)
            won = self._claims[digest]
        finally:
            del self._claims[digest]
        if won:
            self._holding.add(digest)
        return won

    @property
    def _alone(self) -> bool:
        return self._company_at < self._echo_at - _FORGOTTEN_SECONDS

    async def _echoed(self, digest: bytes, *, wait: bool) -> bool:
        """Says a claim and, with ``wait``, returns when it has come back, behind all words that were before it; False where NATS is away."""
        echo = self._echoes[digest] = asyncio.get_running_loop().create_future()
        try:
            await self._word(_CLAIM, digest)
            if wait and self._bus.client.is_connected:
                await asyncio.wait_for(echo, _ECHO_SECONDS)
        except (nats.errors.Error, TimeoutError):
            return False
        finally:
            self._echoes.pop(digest, None)
        return True

    def settle(self, digest: bytes) -> None:
        """A claimed URL has come to its end."""
        self._holding.discard(digest)

    def _company(self, host: str) -> list[str]:
        silent_since = self._echo_at - _FORGOTTEN_SECONDS
        return [peer for peer, heard in self._others.get(host, {}).items() if heard > silent_since]

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(_BEAT_SECONDS)
            heard = {host: {peer: self._others[host][peer] for peer in self._company(host)} for host in self._others}
            self._others = {host: peers for host, peers in heard.items() if peers}
            self._taken = {digest: at for digest, at in self._taken.items() if at > time.monotonic() - _TAKEN_SECONDS}
            with contextlib.suppress(nats.errors.Error):
                await self._say()

    async def _say(self, hosts: Sequence[str] | None = None, *, asks: bool = False) -> None:
        if hosts is None:
            now = time.monotonic()
            self._busy = {host: until for host, until in self._busy.items() if until > now}
            self._answered_at = {host: at for host, at in self._answered_at.items() if host in self._busy}
            hosts = list(self._busy)[-_MOST_HOSTS:]
        await self._publish({"hosts": list(hosts), "asks": asks})

    async def _publish(self, words: dict[str, object]) -> None:
        await self._bus.client.publish(_HOSTS_SUBJECT, json.dumps({"me": self._me, **words}).encode())

    async def _on_hosts(self, message: Msg) -> None:
        try:
            said = json.loads(message.data)
            peer, hosts, asks, holds = str(said["me"]), set(said["hosts"]), bool(said["asks"]), float(said.get("holds", 0))
        except (ValueError, KeyError, TypeError):
            log.warning("%s carries something that no scraper says", message.subject)
            return
        now = time.monotonic()
        if peer == self._me:
            self._echo_at = now
            return
        self._company_at = now
        for host in hosts:
            self._others.setdefault(host, {})[peer] = now
            if holds and host in self._busy:
                self.on_complaint(host, holds)
        if asks:
            if common := [host for host in hosts if self._busy.get(host, 0.0) > now]:
                with contextlib.suppress(nats.errors.Error):
                    await self._say(common)
        elif not hosts:
            for peers in self._others.values():
                peers.pop(peer, None)

    async def _on_claims(self, message: Msg) -> None:
        kind, peer = message.data[:1], message.data[1 : 1 + _ME_BYTES].decode("ascii", "replace")
        digests = _digests(message.data[1 + _ME_BYTES :])
        if peer == self._me:
            for digest in digests:
                if (echo := self._echoes.get(digest)) is not None and not echo.done():
                    echo.set_result(None)
            return
        now = self._company_at = time.monotonic()
        for digest in digests:
            self._hear(digest)
            if digest in self._claims and (kind == _HAVE or peer < self._me):
                self._claims[digest] = False
            if digest not in self._claims and digest not in self._holding:
                self._taken[digest] = now
        if kind == _ASK:
            await self._tell_claims(self._holding)
        elif kind == _CLAIM and (mine := self._holding.intersection(digests)):
            await self._tell_claims(mine)

    async def _tell_claims(self, digests: Iterable[bytes]) -> None:
        held = list(digests)
        with contextlib.suppress(nats.errors.Error):
            for first in range(0, len(held), _CLAIMS_PER_MESSAGE):
                await self._word(_HAVE, *held[first : first + _CLAIMS_PER_MESSAGE])

    async def _word(self, kind: bytes, *digests: bytes) -> None:
        await self._bus.client.publish(self._claims_subject, kind + self._me.encode() + b"".join(digests))


def _digests(data: bytes) -> list[bytes]:
    return [data[i : i + _DIGEST_BYTES] for i in range(0, len(data), _DIGEST_BYTES)]
