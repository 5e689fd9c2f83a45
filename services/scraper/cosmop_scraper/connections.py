"""Connections that are kept alive, origin by origin: taken for a request, given back after it.

A request looks at those of its own origin and at no others: with hundreds of hosts, a pool that looks at all was most of a
scrape's CPU (docs/decisions.md). What is spoken on a connection, HTTP/1.1 or HTTP/2, is agreed on when it is made.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import ssl
import time
from collections import OrderedDict
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import certifi

from cosmop_scraper.addresses import Connects
from cosmop_scraper.errors import ConnectionTakenError, WireError
from cosmop_scraper.exchange import Answer, Origin, Request, Spoken
from cosmop_scraper.http1 import Http1

_SWEEP_SECONDS = 1.0


class Connection:
    """One connection: made when it is first asked."""

    def __init__(self, origin: Origin, backend: Connects, tls: ssl.SSLContext | None, idle_seconds: float) -> None:
        self._origin = origin
        self._backend = backend
        self._tls = tls
        self._idle_seconds = idle_seconds
        self._spoken: Spoken | None = None
        self._failed = False
        self._making = asyncio.Lock()

    async def ask(self, request: Request) -> Answer:
        """Sends a request; returns when the answer's head is there. Raises ``ConnectionTakenError``, ``WireError``, ``FetchError``."""
        if self._spoken is None:
            async with self._making:
                if self._spoken is None:
                    try:
                        self._spoken = await self._connect(request)
                    except BaseException:
                        self._failed = True
                        raise
                    self._failed = False
        return await self._spoken.ask(request)

    async def _connect(self, request: Request) -> Spoken:
        _, host, port = self._origin
        stream = await self._backend.connect_tcp(host, port, request.connect_timeout)
        if self._tls is not None:
            stream = await stream.start_tls(self._tls, host, request.connect_timeout)
            if stream.agreed == "h2":
                from cosmop_scraper.http2 import Http2

                return Http2(self._origin, stream, self._idle_seconds)
        return stream.hand_over(lambda transport: Http1(transport, self._idle_seconds))

    def is_available(self) -> bool:
        """Whether it takes a request now; one over TLS that is being made may turn out to take many."""
        return self._spoken.is_available() if self._spoken else self._tls is not None and not self._failed

    def is_idle(self) -> bool:
        """Whether nothing is under way."""
        return self._spoken.is_idle() if self._spoken else self._failed

    def is_closed(self) -> bool:
        """Whether it has ended, or was never made."""
        return self._spoken.is_closed() if self._spoken else self._failed

    def has_expired(self) -> bool:
        """Whether it has been idle for too long, or the server has hung up."""
        return self._spoken.has_expired() if self._spoken else self._failed

    async def aclose(self) -> None:
        """Ends it."""
        if self._spoken is not None:
            await self._spoken.aclose()


@dataclass
class _Origin:
    """What is open towards one scheme, host and port."""

    name: Origin
    #: Over TLS, the one that several requests may share once HTTP/2 turns out to be spoken.
    shared: Connection | None = None
    #: The one used last is at the end, and is used next.
    idle: list[Connection] = field(default_factory=list)
    #: Requests under way.
    users: int = 0
    last_used: float = 0.0


class Connections:
    """A pool for many origins. Close it.

    Args:
        backend: connects; guards addresses.
        most: requests under way at once; as many connections are open, idle ones included, before idle ones are closed.
        idle_seconds: how long an unused connection is kept.
    """

    def __init__(self, backend: Connects, *, most: int, idle_seconds: float) -> None:
        self._backend = backend
        self._most = most
        self._idle_seconds = idle_seconds
        self._room = asyncio.Semaphore(most)
        #: Least recently used first.
        self._origins: OrderedDict[Origin, _Origin] = OrderedDict()
        self._open: set[Connection] = set()
        self._next_sweep = 0.0

    @contextlib.asynccontextmanager
    async def answer(self, request: Request) -> AsyncIterator[Answer]:
        """Sends a request and yields its answer, whose body may be read inside. Raises ``WireError``, ``FetchError``."""
        async with self._room:
            key = request.origin
            origin = self._origins.get(key)
            if origin is None:
                origin = self._origins[key] = _Origin(key)
            origin.users += 1
            connection: Connection | None = None
            try:
                connection, response = await self._send(origin, request)
                try:
                    yield response
                finally:
                    await response.aclose()
            finally:
                try:
                    if connection is not None:
                        await self._give_back(origin, connection)
                finally:
                    origin.users -= 1
                    origin.last_used = time.monotonic()
                    self._origins.move_to_end(key)
                await self._sweep()

    async def close(self) -> None:
        """Closes all connections."""
        for connection in list(self._open):
            await self._close(connection)

    @functools.cached_property
    def _tls(self) -> ssl.SSLContext:
        """One for all connections: reading the certificate authorities takes longer than a download."""
        context = ssl.create_default_context()
        context.load_verify_locations(certifi.where())
        context.set_alpn_protocols(["h2", "http/1.1"])
        return context

    async def _send(self, origin: _Origin, request: Request) -> tuple[Connection, Answer]:
        while True:
            connection = await self._take(origin)
            try:
                return connection, await connection.ask(request)
            except ConnectionTakenError:
                # Shared in the hope of HTTP/2 and busy with HTTP/1.1, or closed by the server in this very moment.
                await self._give_back(origin, connection)
            except BaseException:
                await self._give_back(origin, connection)
                raise

    async def _take(self, origin: _Origin) -> Connection:
        if origin.shared is not None and origin.shared.is_available() and not origin.shared.has_expired():
            return origin.shared
        while origin.idle:
            connection = origin.idle.pop()
            if connection.is_available() and not connection.has_expired():
                return connection
            await self._close(connection)
        secure = origin.name[0] == "https"
        connection = Connection(origin.name, self._backend, self._tls if secure else None, self._idle_seconds)
        self._open.add(connection)
        if secure:
            origin.shared, replaced = connection, origin.shared
            if replaced is not None and (replaced.is_idle() or replaced.is_closed()):
                await self._close(replaced)
        return connection

    async def _give_back(self, origin: _Origin, connection: Connection) -> None:
        """Keeps a connection that can serve again; one that others still use is given back by the last of them."""
        if connection.is_closed() or (connection.is_idle() and not connection.is_available()):
            if origin.shared is connection:
                origin.shared = None
            await self._close(connection)
        elif connection.is_idle() and connection is not origin.shared and connection not in origin.idle:
            origin.idle.append(connection)
            # One that had failed to connect, and did for another request that waited for it, was counted as closed.
            self._open.add(connection)

    async def _sweep(self) -> None:
        """Closes what nobody has used for a while, and the longest unused where too many are open."""
        now = time.monotonic()
        too_many = len(self._open) - self._most
        if now < self._next_sweep and too_many <= 0:
            return
        self._next_sweep = now + _SWEEP_SECONDS
        unused: list[Connection] = []
        for key, origin in list(self._origins.items()):
            if now - origin.last_used <= self._idle_seconds and too_many <= len(unused):
                break
            if not origin.users:
                del self._origins[key]
                unused += [*origin.idle, *([origin.shared] if origin.shared else [])]
        for connection in unused:
            await self._close(connection)

    async def _close(self, connection: Connection) -> None:
        self._open.discard(connection)
        with contextlib.suppress(OSError, WireError):
            await connection.aclose()
