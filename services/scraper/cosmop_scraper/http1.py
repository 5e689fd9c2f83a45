"""HTTP/1.1 on one connection: a request, its answer, the next request (RFC 9112).

What the server sends goes straight to llhttp, the parser of Node.js (by ``httptools``), as it arrives: no stream, no buffer and
no state machine in Python in between. What is not read is not asked for: above a bound the server has to wait.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import httptools

from cosmop_scraper.errors import ConnectionTakenError, WireError, WireTimeoutError
from cosmop_scraper.exchange import Request

#: Body bytes received and not yet read, above which the server has to wait.
_BUFFER_BYTES = 256 << 10
#: Bytes that bring no body: an answer's head, its trailers, what stands between its chunks.
_MOST_HEAD_BYTES = 100 << 10


class _Parsed:
    """What the parser says of one answer."""

    def __init__(self) -> None:
        self._parser: httptools.HttpResponseParser | None = httptools.HttpResponseParser(self)
        # What ill-written servers send and browsers take (RFC 9112, sections 2.2, 5.2, 6.3). It is harmless to one who asks once and
        # throws away all that comes behind the answer.
        self._parser.set_dangerous_leniencies(lenient_headers=True, lenient_chunked_length=True, lenient_optional_cr_before_lf=True)
        self.status = 0
        self.headers: list[tuple[bytes, bytes]] = []
        self.parts: list[bytes] = []
        self.held = 0
        #: Bytes since the body last grew.
        self.idle_bytes = 0
        self.complete = self.reusable = False
        #: Whether the body says itself where it ends; otherwise the connection's end does.
        self.framed = False
        #: Whether it says so in two ways: then no second answer is read from the connection.
        self._framed_twice = False
        self.broken: WireError | None = None

    def feed(self, data: bytes) -> None:
        """Takes what the server has sent."""
        self.idle_bytes += len(data)
        if self._parser is None:
            return
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            if not self.complete:
                self.broken = WireError(f"what it says is not HTTP: {error}")
            self.reusable = False
        if self.idle_bytes > _MOST_HEAD_BYTES:
            self.broken = WireError(f"its header fields are longer than {_MOST_HEAD_BYTES} bytes")

    def forget(self) -> None:
        """Lets go of the parser, which holds this: memory is freed at once, and not when cycles are looked for."""
        self._parser = None

    def on_message_begin(self) -> None:
        if self.complete:  # an answer that nobody has asked for
            self.reusable = False

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self.complete and not self.status:
            self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        if self.complete or self._parser is None:
            return
        status = self._parser.get_status_code()
        if status < 200:  # noqa: PLR2004 - "continue", "early hints": the answer comes after it
            self.headers.clear()
            return
        coding = b",".join(value for name, value in self.headers if name.lower() == b"transfer-encoding").lower()
        length = any(name.lower() == b"content-length" for name, _ in self.headers)
        self.framed = coding.rstrip().endswith(b"chunked") if coding else length
        self._framed_twice = bool(coding) and length
        self.status = status

    def on_body(self, body: bytes) -> None:
        if not self.complete:
            self.idle_bytes = 0
            self.held += len(body)
            self.parts.append(body)

    def on_message_complete(self) -> None:
        if self.status and not self.complete and self._parser is not None:
            self.complete = True
            self.reusable = self._parser.should_keep_alive() and not self._framed_twice


class Http1(asyncio.Protocol):
    """One connection, one request at a time.

    Args:
        transport: connected, and not read from before this is its protocol.
        idle_seconds: how long it may be used again after an answer.
    """

    def __init__(self, transport: asyncio.Transport, idle_seconds: float) -> None:
        self._transport = transport
        self._idle_seconds = idle_seconds
        self._now: _Parsed | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._ended = self._paused = self._used = False
        self._error: Exception | None = None
        self._used_at = time.monotonic()

    async def ask(self, request: Request) -> Http1Answer:
        """Sends a request; returns when the answer's head is there.

        Raises:
            ConnectionTakenError: another request is under way, or the server has hung up in this very moment: ask on another connection.
            WireError: the connection broke, or what came is no HTTP.
        """
        if not self.is_available():
            raise ConnectionTakenError("another request is under way on this connection, or it has ended")
        again, self._used = self._used, True
        parsed = self._now = _Parsed()
        try:
            self._transport.write(_head(request))
            if request.body:
                self._transport.write(request.body)
            while not parsed.status:
                try:
                    await self._more(parsed, request.read_timeout)
                except WireTimeoutError:
                    raise
                except WireError as error:
                    if again and self._ended and not parsed.idle_bytes:
                        raise ConnectionTakenError("the server has closed a connection that was idle") from error
                    raise
        except BaseException:
            await self.aclose()
            raise
        return Http1Answer(self, parsed, request.read_timeout)

    async def parts(self, parsed: _Parsed, timeout: float) -> AsyncIterator[bytes]:  # noqa: ASYNC109 - of each wait
        """The body as it comes."""
        while True:
            if parsed.parts:
                part = parsed.parts[0] if len(parsed.parts) == 1 else b"".join(parsed.parts)
                parsed.parts, parsed.held = [], 0
                if self._paused:
                    self._paused = False
                    if not self.is_closed():
                        self._transport.resume_reading()
                yield part
            elif parsed.complete:
                return
            else:
                await self._more(parsed, timeout)

    async def done(self, parsed: _Parsed) -> None:
        """An answer has been read, or given up: the connection is free again, or closed."""
        if parsed is not self._now:
            return
        self._now, self._used_at = None, time.monotonic()
        parsed.forget()
        if not (parsed.complete and parsed.reusable) or self._paused:
            await self.aclose()

    def is_available(self) -> bool:
        """Whether it takes a request now."""
        return self._now is None and not self.is_closed()

    def is_idle(self) -> bool:
        """Whether nothing is under way."""
        return self._now is None

    def is_closed(self) -> bool:
        """Whether it has ended."""
        return self._ended or self._transport.is_closing()

    def has_expired(self) -> bool:
        """Whether it has been idle for too long, or the server has hung up."""
        return self.is_closed() or (self._now is None and time.monotonic() - self._used_at > self._idle_seconds)

    async def aclose(self) -> None:
        """Closes at once: nothing that matters is left to be sent."""
        if self._now is not None:
            self._now.forget()
        self._now, self._ended = None, True
        self._transport.abort()

    def data_received(self, data: bytes) -> None:
        """Parses what has come, and holds the server back where too much lies unread."""
        parsed = self._now
        if parsed is None:  # nobody has asked
            self._ended = True
            self._transport.abort()
            return
        parsed.feed(data)
        if parsed.held > _BUFFER_BYTES and not self._paused:
            self._paused = True
            self._transport.pause_reading()
        self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        """Whoever waits learns of it."""
        self._ended, self._error = True, exc
        self._wake()

    async def _more(self, parsed: _Parsed, timeout: float) -> None:  # noqa: ASYNC109
        """Returns when something has come. Raises ``WireError`` where nothing that is whole will come any more."""
        if parsed.broken is not None:
            raise parsed.broken
        if self._ended:
            if parsed.status and not parsed.framed and self._error is None:
                parsed.complete = True
                return
            raise WireError(str(self._error) if self._error else "the server closed the connection before its answer was whole")
        loop = asyncio.get_running_loop()
        self._waiter = loop.create_future()
        timer = loop.call_later(timeout, _expire, self._waiter, timeout)
        try:
            await self._waiter
        finally:
            timer.cancel()
            self._waiter = None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


class Http1Answer:
    """An answer whose body is still to be read."""

    def __init__(self, connection: Http1, parsed: _Parsed, timeout: float) -> None:
        self._connection = connection
        self._parsed = parsed
        self._timeout = timeout
        self.status = parsed.status
        self.headers = parsed.headers

    def aiter_stream(self) -> AsyncIterator[bytes]:
        """The body's parts. Raises ``WireError``."""
        return self._connection.parts(self._parsed, self._timeout)

    async def aclose(self) -> None:
        """Frees the connection, or closes it where the body was not read to its end."""
        await self._connection.done(self._parsed)


def _expire(waiter: asyncio.Future[None], seconds: float) -> None:
    if not waiter.done():
        waiter.set_exception(WireTimeoutError(f"silent for {seconds:g} s"))


def _head(request: Request) -> bytes:
    """The request line and the header fields. Raises ``WireError`` where one holds a line break of its own."""
    fields = {**request.headers, "content-length": str(len(request.body))} if request.body or request.method == "PUT" else request.headers
    lines = [f"{request.method} {request.target} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items()), "", ""]
    text = "\r\n".join(lines)
    if text.count("\n") != len(lines) - 1 or text.count("\r") != len(lines) - 1 or "\0" in text:
        raise WireError("a header field of the request holds a line break")
    return text.encode("latin-1")
