"""HTTP/1.1 as servers speak it, well and ill, in both event loops: what is whole comes whole, and nothing else is taken for an answer."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Callable, Iterable

import pytest
import uvloop
from cosmop_scraper.connections import Connections
from cosmop_scraper.errors import WireError, WireTimeoutError
from cosmop_scraper.exchange import Request
from cosmop_scraper.wire import Backend

OK = b"HTTP/1.1 200 OK\r\n"
FIVE = OK + b"content-length: 5\r\n\r\nhello"


@pytest.fixture(params=[asyncio.DefaultEventLoopPolicy, uvloop.EventLoopPolicy], ids=["asyncio", "uvloop"])
def event_loop_policy(request: pytest.FixtureRequest) -> asyncio.AbstractEventLoopPolicy:
    """The tests' loop, and that of a job process."""
    policy: asyncio.AbstractEventLoopPolicy = request.param()
    return policy


class Scripted:
    """Each connection answers its requests with the parts of the next script; None closes it."""

    def __init__(self, *scripts: Iterable[bytes | None]) -> None:
        self.scripts = list(scripts)
        self.opened = 0
        self.heads: list[bytes] = []

    async def client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        script = self.scripts[min(self.opened, len(self.scripts) - 1)]
        self.opened += 1
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            for part in script:
                if part is None:
                    break
                if part.startswith((b"HTTP/1.1 2", b"HTTP/1.0", b"!")):
                    self.heads.append(await reader.readuntil(b"\r\n\r\n"))
                writer.write(part.removeprefix(b"!"))
                await writer.drain()
                await asyncio.sleep(0)
            else:
                await reader.read()
        writer.close()


@contextlib.asynccontextmanager
async def asking(*scripts: Iterable[bytes | None], patience: float = 60, **fields: str) -> AsyncIterator[tuple[Scripted, Callable[[], object]]]:
    """A scripted server, and a function that asks it and returns status and body."""
    scripted = Scripted(*scripts)
    server = await asyncio.start_server(scripted.client, "127.0.0.1", 0)
    request = Request("http", "127.0.0.1", server.sockets[0].getsockname()[1], "/x", {"host": "x", **fields}, read_timeout=patience)
    connections = Connections(Backend(), most=8, idle_seconds=30)

    async def ask() -> tuple[int, bytes]:
        async with connections.answer(request) as answer:
            return answer.status, b"".join([part async for part in answer.aiter_stream()])

    try:
        yield scripted, ask
    finally:
        await connections.close()
        server.close()


WHOLE = {
    "length": (FIVE, b"hello"),
    "empty": (OK + b"content-length: 0\r\n\r\n", b""),
    "chunks": (OK + b"transfer-encoding: chunked\r\n\r\n2;a=b\r\nhe\r\n3\r\nllo\r\n0\r\nx-trailer: y\r\n\r\n", b"hello"),
    "no content": (b"HTTP/1.1 204 No Content\r\n\r\n", b""),
    "hints before": (b"!HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n" + FIVE, b"hello"),
}


@pytest.mark.parametrize("name", WHOLE)
async def test_what_is_whole_comes_whole_and_the_connection_goes_on(name: str) -> None:
    sent, body = WHOLE[name]
    crumbs = [sent.removeprefix(b"!")[i : i + 1] for i in range(len(sent.removeprefix(b"!")))]
    async with asking([sent, sent, b"!" + crumbs[0], *crumbs[1:]]) as (server, ask):
        assert [(await ask())[1] for _ in range(3)] == [body] * 3  # type: ignore[misc]
        assert server.opened == 1


@pytest.mark.parametrize("head", [OK, b"HTTP/1.0 200 OK\r\n", OK + b"connection: close\r\n"])
async def test_a_body_may_end_with_its_connection(head: bytes) -> None:
    async with asking([head + b"\r\n", b"hel", b"lo", None]) as (server, ask):
        assert [await ask(), await ask()] == [(200, b"hello")] * 2  # type: ignore[misc]
        assert server.opened == 2


ODD = {
    "length and chunks": OK + b"content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    "bare line feeds": b"HTTP/1.1 200 OK\ncontent-length: 5\n\nhello",
    "folded field": OK + b"x-a: b\r\n c\r\ncontent-length: 5\r\n\r\nhello",
    "no reason": b"HTTP/1.1 200\r\ncontent-length: 5\r\n\r\nhello",
    "not ascii": OK + b"x-a: \xe9\xff\r\ncontent-length: 5\r\n\r\nhello",
}


@pytest.mark.parametrize("name", ODD)
async def test_what_ill_written_servers_send_is_read(name: str) -> None:
    async with asking([ODD[name], ODD[name]], [ODD[name]]) as (server, ask):
        assert [await ask(), await ask()] == [(200, b"hello")] * 2  # type: ignore[misc]
        assert server.opened == (2 if name == "length and chunks" else 1)


ILL = {
    "cut": [OK + b"content-length: 5\r\n\r\nhel", None],
    "cut chunk": [OK + b"transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n", None],
    "cut head": [b"HTTP/1.1 200 OK\r\ncontent-le", None],
    "nothing": [b"!", None],
    "no http": [b"!SSH-2.0-OpenSSH_9.6\r\n"],
    "two lengths": [OK + b"content-length: 5\r\ncontent-length: 6\r\n\r\nhello"],
    "length of letters": [OK + b"content-length: five\r\n\r\nhello"],
    "chunk of letters": [OK + b"transfer-encoding: chunked\r\n\r\nxyz\r\nhello\r\n0\r\n\r\n"],
    "other protocol": [b"!HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n"],
}


@pytest.mark.parametrize("name", ILL)
async def test_what_is_not_whole_is_no_answer(name: str) -> None:
    async with asking(ILL[name]) as (server, ask):
        with pytest.raises(WireError):
            await ask()  # type: ignore[misc]
        assert server.opened == 1, "a first request is not repeated behind one's back"


ENDLESS = {
    "fields": (OK, b"x-a: b\r\n" * 1000),
    "field": (OK + b"x-a: ", b"b" * 8000),
    "hints": (b"!HTTP/1.1 103 Early Hints\r\n\r\n", b"HTTP/1.1 103 Early Hints\r\n\r\n" * 300),
    "trailers": (OK + b"transfer-encoding: chunked\r\n\r\n2\r\nhe\r\n0\r\n", b"x-a: b\r\n" * 1000),
}


@pytest.mark.parametrize("name", ENDLESS)
async def test_what_never_ends_ends_here(name: str) -> None:
    first, rest = ENDLESS[name]
    async with asking(itertools.chain([first], itertools.repeat(rest))) as (_, ask):
        with pytest.raises(WireError, match="longer than"):
            await ask()  # type: ignore[misc]


async def test_silence_is_a_timeout() -> None:
    async with asking([OK + b"content-length: 5\r\n\r\nhe"], patience=0.3) as (_, ask):
        with pytest.raises(WireTimeoutError):
            await ask()  # type: ignore[misc]


async def test_a_connection_that_the_server_has_left_is_replaced_unseen() -> None:
    async with asking([FIVE, b"!", None], [FIVE, FIVE]) as (server, ask):
        assert [await ask() for _ in range(3)] == [(200, b"hello")] * 3  # type: ignore[misc]
        assert server.opened == 2


async def test_what_comes_unasked_is_never_the_next_answer() -> None:
    async with asking([FIVE + b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nforged"], [FIVE]) as (server, ask):
        assert [await ask(), await ask()] == [(200, b"hello")] * 2  # type: ignore[misc]
        assert server.opened == 2


async def test_a_line_break_in_a_field_is_not_sent() -> None:
    async with asking([FIVE], cookie="a\r\nx-forged: 1") as (server, ask):
        with pytest.raises(WireError, match="line break"):
            await ask()  # type: ignore[misc]
        assert server.heads == []
