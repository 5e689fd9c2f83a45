"""Connections that are kept alive, origin by origin: taken for a request, given back after it.

httpcore's own pool looks at all connections for each request, which with hundreds of hosts was most of a scrape's CPU
(docs/decisions.md); here a request looks at those of its own origin. What a connection is, HTTP/1.1 or HTTP/2, is httpcore's.
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

import httpcore

_SWEEP_SECONDS = 1.0


@dataclass
class _Origin:
    """What is open towards one scheme, host and port."""

    name: httpcore.Origin
    #: Over TLS, the one that several requests may share once HTTP/2 turns out to be spoken.
    shared: httpcore.AsyncHTTPConnection | None = None
    #: The one used last is at the end, and is used next.
    idle: list[httpcore.AsyncHTTPConnection] = field(default_factory=list)
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

    def __init__(self, backend: httpcore.AsyncNetworkBackend, *, most: int, idle_seconds: float) -> None:
        self._backend = backend
        self._most = most
        self._idle_seconds = idle_seconds
        self._room = asyncio.Semaphore(most)
        #: Least recently used first.
        self._origins: OrderedDict[tuple[bytes, bytes, int | None], _Origin] = OrderedDict()
        self._open: set[httpcore.AsyncHTTPConnection] = set()
        self._next_sweep = 0.0

    @contextlib.asynccontextmanager
    async def answer(self, request: httpcore.Request) -> AsyncIterator[httpcore.Response]:
        """Sends a request and yields its answer, whose body may be read inside. Raises httpcore's exceptions."""
        async with self._room:
            key = (request.url.scheme, request.url.host, request.url.port)
            if key not in self._origins:
                self._origins[key] = _Origin(request.url.origin)
            origin = self._origins[key]
            origin.users += 1
            connection: httpcore.AsyncHTTPConnection | None = None
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
        return httpcore.default_ssl_context()

    async def _send(self, origin: _Origin, request: httpcore.Request) -> tuple[httpcore.AsyncHTTPConnection, httpcore.Response]:
        while True:
            connection = await self._take(origin)
            try:
                return connection, await connection.handle_async_request(request)
            except httpcore.ConnectionNotAvailable:
                # Shared in the hope of HTTP/2 and busy with HTTP/1.1, or closed by the server in this very moment.
                await self._give_back(origin, connection)
            except BaseException:
                await self._give_back(origin, connection)
                raise

    async def _take(self, origin: _Origin) -> httpcore.AsyncHTTPConnection:
        if origin.shared is not None and origin.shared.is_available() and not origin.shared.has_expired():
            return origin.shared
        while origin.idle:
            connection = origin.idle.pop()
            if connection.is_available() and not connection.has_expired():
                return connection
            await self._close(connection)
        connection = httpcore.AsyncHTTPConnection(
            origin.name,
            ssl_context=self._tls if origin.name.scheme == b"https" else None,
            keepalive_expiry=self._idle_seconds,
            http2=True,
            network_backend=self._backend,
        )
        self._open.add(connection)
        if origin.name.scheme == b"https":
            origin.shared, replaced = connection, origin.shared
            if replaced is not None and (replaced.is_idle() or replaced.is_closed()):
                await self._close(replaced)
        return connection

    async def _give_back(self, origin: _Origin, connection: httpcore.AsyncHTTPConnection) -> None:
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
        unused: list[httpcore.AsyncHTTPConnection] = []
        for key, origin in list(self._origins.items()):
            if now - origin.last_used <= self._idle_seconds and too_many <= len(unused):
                break
            if not origin.users:
                del self._origins[key]
                unused += [*origin.idle, *([origin.shared] if origin.shared else [])]
        for connection in unused:
            await self._close(connection)

    async def _close(self, connection: httpcore.AsyncHTTPConnection) -> None:
        self._open.discard(connection)
        with contextlib.suppress(OSError, httpcore.NetworkError):
            await connection.aclose()
