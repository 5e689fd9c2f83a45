"""A local web server that misbehaves as told: each path is a coroutine that writes what it likes."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field

Answer = Callable[["Request"], Awaitable[None]]


@dataclass
class Request:
    """One request and the wire to answer on."""

    path: str
    headers: dict[str, str]
    writer: asyncio.StreamWriter

    async def answer(self, body: bytes = b"", status: int = 200, **headers: str) -> None:
        """A whole answer; ``content_type="text/html"`` is a header."""
        fields = {"content-length": str(len(body))} | {k.replace("_", "-"): v for k, v in headers.items()}
        await self.raw(f"HTTP/1.1 {status} X\r\n" + "".join(f"{k}: {v}\r\n" for k, v in fields.items()) + "\r\n", body)

    async def json(self, value: object, status: int = 200, **headers: str) -> None:
        """An answer in JSON."""
        await self.answer(json.dumps(value).encode(), status, content_type="application/json", **headers)

    async def raw(self, head: str, body: bytes = b"") -> None:
        """Bytes as they are."""
        self.writer.write(head.encode() + body)
        await self.writer.drain()


@dataclass
class LocalServer:
    """Where it is, and what it was asked."""

    origin: str
    #: May be added to while it serves.
    answers: dict[str, Answer]
    asked: list[str] = field(default_factory=list)
    #: When each request came (event loop time).
    times: list[float] = field(default_factory=list)
    seen_headers: list[dict[str, str]] = field(default_factory=list)


@contextlib.asynccontextmanager
async def serving(answers: dict[str, Answer]) -> AsyncIterator[LocalServer]:
    """Serves on loopback; a path is looked up without its query, robots.txt is missing unless it is among the answers."""

    async def client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
                path = head[0].split(" ")[1]
                headers = {k.lower(): v.strip() for k, _, v in (line.partition(":") for line in head[1:] if line)}
                server.asked.append(path)
                server.times.append(asyncio.get_running_loop().time())
                server.seen_headers.append(headers)
                request = Request(path, headers, writer)
                answer = answers.get(path.partition("?")[0])
                await (answer(request) if answer else request.answer(status=404))
        writer.close()

    listener = await asyncio.start_server(client, "127.0.0.1", 0)
    server = LocalServer(f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}", answers)
    tasks_before = asyncio.all_tasks()
    try:
        yield server
    finally:
        listener.close()
        for task in asyncio.all_tasks() - tasks_before - {asyncio.current_task()}:  # type: ignore[arg-type]
            task.cancel()
        await asyncio.sleep(0)
