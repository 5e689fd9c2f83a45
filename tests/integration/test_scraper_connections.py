"""Connections kept alive: reused, closed when unused, bounded in number, and given back whatever happens inside."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator
from urllib.parse import urlsplit

import pytest
from cosmop_scraper.addresses import GuardedBackend
from cosmop_scraper.connections import Connections
from cosmop_scraper.errors import WireError
from cosmop_scraper.exchange import Request

BIG = random.Random(1).randbytes(4 << 20)


class Server:
    """Answers on every address of 127.0.0.0/8 and counts its connections."""

    def __init__(self) -> None:
        self.port = self.opened = self.asked = self.closed = 0
        #: Answers are held until so many requests wait for one.
        self.together = asyncio.Barrier(1)

    def url(self, host: int = 1, path: str = "/") -> str:
        return f"http://127.0.0.{host}:{self.port}{path}"

    async def client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.opened += 1
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            while True:
                path = (await reader.readuntil(b"\r\n\r\n")).split(b" ")[1]
                self.asked += 1
                await self.together.wait()
                if path == b"/big":
                    writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(BIG) + BIG)
                    continue
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n" + (b"he" if path == b"/half" else b"hello"))
                if path == b"/last":
                    break
        self.closed += 1
        writer.close()


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    server = Server()
    listener = await asyncio.start_server(server.client, "0.0.0.0", 0)
    server.port = listener.sockets[0].getsockname()[1]
    yield server
    listener.close()


@contextlib.asynccontextmanager
async def pool(most: int = 100, idle_seconds: float = 30) -> AsyncIterator[Connections]:
    connections = Connections(GuardedBackend(allow_private=True), most=most, idle_seconds=idle_seconds)
    try:
        yield connections
    finally:
        await connections.close()


def asking(url: str) -> Request:
    parts = urlsplit(url)
    return Request("http", parts.hostname or "", parts.port or 80, parts.path, {"host": "x"}, read_timeout=120)


async def get(connections: Connections, url: str) -> bytes:
    async with connections.answer(asking(url)) as response:
        return b"".join([part async for part in response.aiter_stream()])


async def until(holds: object, seconds: float = 60) -> None:
    """Waits until a condition holds."""
    assert callable(holds)
    async with asyncio.timeout(seconds):
        while not holds():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def test_connections_are_used_again(server: Server) -> None:
    server.together = asyncio.Barrier(4)
    async with pool() as connections:
        for _ in range(3):
            assert await asyncio.gather(*(get(connections, server.url()) for _ in range(4))) == [b"hello"] * 4
        assert server.opened == 4
    await until(lambda: server.closed == 4)


async def test_one_that_the_server_closed_is_not_used_again(server: Server) -> None:
    async with pool() as connections:
        for number in range(3):
            assert await get(connections, server.url(path="/last")) == b"hello"
            await until(lambda number=number: server.closed > number)
            await asyncio.sleep(0.05)
    assert server.opened == 3


async def test_no_more_than_the_bound_stay_open(server: Server) -> None:
    async with pool(most=5) as connections:
        for host in range(1, 40):
            await get(connections, server.url(host))
        await until(lambda: server.closed >= 34)
        assert await asyncio.gather(*(get(connections, server.url(host)) for host in range(1, 40))) == [b"hello"] * 39
        assert len(connections._open) <= 6
    await until(lambda: server.closed == server.opened)


async def test_what_nobody_uses_is_closed_after_a_while(server: Server) -> None:
    async with pool(idle_seconds=0.2) as connections:
        for host in range(2, 12):
            await get(connections, server.url(host))
        await asyncio.sleep(1.2)
        await get(connections, server.url(1))
        await until(lambda: server.closed == 10)
        assert server.closed == 10, "the one in use stays"


async def test_a_request_that_is_given_up_leaves_nothing_open(server: Server) -> None:
    async with pool() as connections:
        task = asyncio.create_task(get(connections, server.url(path="/half")))
        await until(lambda: server.asked == 1)
        await asyncio.sleep(0.05)  # half of the answer is there
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        with pytest.raises(ZeroDivisionError):
            async with connections.answer(asking(server.url(path="/half"))):
                raise ZeroDivisionError
        await until(lambda: server.closed == server.opened == 2)
        assert not connections._open
        assert await get(connections, server.url()) == b"hello"


async def test_a_large_body_comes_whole_however_slowly_it_is_read(server: Server) -> None:
    async with pool() as connections:
        for pause in (0.0, 0.002):
            parts = []
            async with connections.answer(asking(server.url(path="/big"))) as response:
                async for part in response.aiter_stream():
                    parts.append(part)
                    await asyncio.sleep(pause)
            assert b"".join(parts) == BIG
        assert server.opened == 1


async def test_where_nobody_listens_it_is_said(server: Server) -> None:
    async with pool() as connections:
        with pytest.raises(WireError):
            await get(connections, "http://127.0.0.1:1/")
        assert not connections._open
