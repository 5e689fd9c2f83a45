"""A forward proxy on loopback that connects to permitted addresses only: what a browser's pages load goes through it.

A rendered page may ask for anything: the browser must not reach what the downloader may not (``addresses``). HTTP is
forwarded, HTTPS is tunnelled (CONNECT, RFC 9110, section 9.3.6); the address is judged at each connection.
"""

from __future__ import annotations

import asyncio
import contextlib
from urllib.parse import urlsplit

from cosmop_common.tasks import end_tasks

from cosmop_scraper.addresses import GuardedBackend
from cosmop_scraper.errors import AddressRefusedError, FetchError

_HEAD_BYTES = 64 << 10
_HEAD_SECONDS = 30.0
_CONNECT_SECONDS = 15.0
_CHUNK = 64 << 10


class GuardProxy:
    """One browser's way out. ``start`` it, ``close`` it."""

    def __init__(self, backend: GuardedBackend) -> None:
        self._backend = backend
        self._server: asyncio.Server | None = None
        self._clients: set[asyncio.Task[None]] = set()

    async def start(self) -> str:
        """Listens on a free port; returns the address as a browser takes it. May be called again."""
        if self._server is None:
            self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0, limit=_HEAD_BYTES)
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def close(self) -> None:
        """Ends all connections."""
        if self._server is not None:
            self._server.close()
            self._server = None
        await end_tasks(self._clients)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._clients.add(task)
        try:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, TimeoutError, asyncio.CancelledError):
                await self._serve(reader, writer)
        finally:
            self._clients.discard(task)
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), _HEAD_SECONDS)
        line, _, fields = head.decode("latin-1").partition("\r\n")
        method, _, target = line.rpartition(" ")[0].partition(" ")
        tunnel = method == "CONNECT"
        try:
            parts = urlsplit(f"//{target}" if tunnel else target)
            host, port = parts.hostname, parts.port or 80
        except ValueError:
            host, port = None, 0
        if not host or (not tunnel and parts.scheme != "http"):
            await _answer(writer, 400, f"{target[:200]!r} names no host")
            return
        try:
            upstream, sink = await self._connect(host, port)
        except AddressRefusedError as error:
            await _answer(writer, 403, str(error))
            return
        except (FetchError, OSError, TimeoutError) as error:
            await _answer(writer, 502, f"{host} cannot be reached: {error}")
            return
        try:
            if tunnel:
                writer.write(b"HTTP/1.1 200 connected\r\n\r\n")
            else:
                path = parts._replace(scheme="", netloc="").geturl() or "/"
                sink.write(f"{method} {path} HTTP/1.1\r\n{_one_request(fields)}".encode("latin-1"))
            await _both_ways((reader, sink), (upstream, writer))
        finally:
            sink.close()

    async def _connect(self, host: str, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        last: Exception | None = None
        for address in await self._backend.resolve(host, port):
            try:
                return await asyncio.wait_for(asyncio.open_connection(address, port), _CONNECT_SECONDS)
            except (OSError, TimeoutError) as error:
                last = error
        assert last is not None
        raise last


def _one_request(fields: str) -> str:
    """Header fields for the server: this connection carries one request, since the next may be for another host."""
    kept = [
        f
        for f in fields.split("\r\n")
        if f and f.partition(":")[0].strip().lower() not in {"connection", "proxy-connection", "proxy-authorization", "keep-alive"}
    ]
    return "\r\n".join([*kept, "Connection: close", "", ""])


async def _both_ways(*pipes: tuple[asyncio.StreamReader, asyncio.StreamWriter]) -> None:
    """Carries bytes both ways until the server has ended its side."""
    up, down = (asyncio.create_task(_carry(source, sink)) for source, sink in pipes)
    try:
        await asyncio.wait({down})
    finally:
        await end_tasks([up, down])


async def _carry(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while part := await source.read(_CHUNK):
            sink.write(part)
            await sink.drain()


async def _answer(writer: asyncio.StreamWriter, status: int, words: str) -> None:
    body = words.encode()
    writer.write(
        f"HTTP/1.1 {status} refused\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode() + body
    )
    await writer.drain()
