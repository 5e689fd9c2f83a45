"""The other scrapers that run now: hosts are shared with them, and no URL is fetched by two.

No server keeps the shares. Each job process says on NATS which hosts it is busy with, at once when it turns to a new one
and twice a second; whoever hears it asks that host so much slower: with n scrapers at a host each takes 1/n of the rate.
A newcomer waits for the answers of those who are there before its first request, so that the limit holds while it joins.
A scraper that dies is forgotten after a few seconds.

A URL is claimed before it is fetched, by a word that all scrapers of the collection hear. The first one heard has it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import secrets
import time
from collections.abc import Callable

import nats.errors
from cosmop_common.bus import Bus
from cosmop_common.names import token
from cosmop_common.tasks import end_tasks
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

log = logging.getLogger(__name__)

_HOSTS_SUBJECT = "cosmop.scrapers.hosts"
_BEAT_SECONDS = 0.5
#: A host counts as busy for so long after its last request.
_BUSY_SECONDS = 10.0
_FORGOTTEN_SECONDS = 3.0
_ARRIVAL_SECONDS = 0.2
_CLAIM_SECONDS = 1.0
_MOST_HOSTS = 2000


class Peers:
    """This scraper's place among the others. Make it with ``Peers.join``; ``leave`` it."""

    def __init__(self, bus: Bus, collection: str, hear: Callable[[bytes], None]) -> None:
        self._bus = bus
        self._me = secrets.token_hex(8)
        self._claims_subject = f"cosmop.scrapers.urls.{token(collection)}"
        self._hear = hear
        self._busy: dict[str, float] = {}
        #: When those who are busy with a host have had time to say so.
        self._answered_at: dict[str, float] = {}
        #: Host, other scraper, when it was last heard of.
        self._others: dict[str, dict[str, float]] = {}
        self._claims: dict[bytes, asyncio.Future[bool]] = {}
        self._subscriptions: list[Subscription] = []
        self._task: asyncio.Task[None] | None = None

    @classmethod
    async def join(cls, bus: Bus, collection: str, hear: Callable[[bytes], None]) -> Peers:
        """Begins to listen and to speak; ``hear`` is told each URL's digest that another scraper has claimed."""
        peers = cls(bus, collection, hear)
        peers._subscriptions.append(await bus.client.subscribe(_HOSTS_SUBJECT, cb=peers._on_hosts))
        peers._subscriptions.append(await bus.client.subscribe(peers._claims_subject, cb=peers._on_claim))
        await bus.client.flush()
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
        now = time.monotonic()
        return 1 + sum(now - heard < _FORGOTTEN_SECONDS for heard in self._others.get(host, {}).values())

    async def arrive(self, host: str) -> None:
        """Called before each request to a host: a new one is announced, and those who are there get time to say so."""
        last = self._busy.get(host)
        self._busy[host] = now = time.monotonic()
        if last is None or now - last > _BUSY_SECONDS:
            self._answered_at[host] = now + _ARRIVAL_SECONDS
            with contextlib.suppress(nats.errors.Error):
                await self._say([host], asks=True)
        if (wait := self._answered_at[host] - time.monotonic()) > 0:
            await asyncio.sleep(wait)

    async def claim(self, digest: bytes) -> bool:
        """Whether this scraper is the first to want a URL. Where NATS is away, it is: facts are idempotent."""
        waiting = self._claims.get(digest)
        if waiting is None:
            waiting = self._claims[digest] = asyncio.get_running_loop().create_future()
            try:
                await self._bus.client.publish(self._claims_subject, self._me.encode() + digest)
            except nats.errors.Error:
                return True
        try:
            return await asyncio.wait_for(asyncio.shield(waiting), _CLAIM_SECONDS)
        except TimeoutError:
            return True
        finally:
            self._claims.pop(digest, None)

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(_BEAT_SECONDS)
            now = time.monotonic()
            heard = {host: {peer: at for peer, at in peers.items() if now - at < _FORGOTTEN_SECONDS} for host, peers in self._others.items()}
            self._others = {host: peers for host, peers in heard.items() if peers}
            with contextlib.suppress(nats.errors.Error):
                await self._say()

    async def _say(self, hosts: list[str] | None = None, *, asks: bool = False) -> None:
        now = time.monotonic()
        if hosts is None:
            self._busy = {host: at for host, at in self._busy.items() if now - at < _BUSY_SECONDS}
            hosts = list(self._busy)[-_MOST_HOSTS:]
        await self._bus.client.publish(_HOSTS_SUBJECT, json.dumps({"me": self._me, "hosts": hosts, "asks": asks}).encode())

    async def _on_hosts(self, message: Msg) -> None:
        try:
            said = json.loads(message.data)
            peer, hosts, asks = str(said["me"]), set(said["hosts"]), bool(said["asks"])
        except (ValueError, KeyError, TypeError):
            log.warning("%s carries something that no scraper says", message.subject)
            return
        if peer == self._me:
            return
        now = time.monotonic()
        for host in hosts:
            self._others.setdefault(host, {})[peer] = now
        if asks:
            if common := [host for host in hosts if host in self._busy]:
                with contextlib.suppress(nats.errors.Error):
                    await self._say(common)
        elif not hosts:
            for peers in self._others.values():
                peers.pop(peer, None)

    async def _on_claim(self, message: Msg) -> None:
        peer, digest = message.data[:16].decode("ascii", "replace"), message.data[16:]
        waiting = self._claims.get(digest)
        if waiting is not None and not waiting.done():
            waiting.set_result(peer == self._me)
        if peer != self._me:
            self._hear(digest)
