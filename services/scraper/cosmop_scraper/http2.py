"""HTTP/2 on one connection, spoken by httpcore, which is loaded where a server agrees to it and nowhere else."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterator, Sequence

import httpcore

from cosmop_scraper.errors import ConnectionTakenError, WireError
from cosmop_scraper.exchange import Origin, Request
from cosmop_scraper.wire import Stream


class Http2:
    """One connection that carries many requests at once.

    Args:
        stream: connected, TLS agreed on.
        idle_seconds: how long it may be used again after its last answer.
    """

    def __init__(self, origin: Origin, stream: Stream, idle_seconds: float) -> None:
        scheme, host, port = origin
        name = httpcore.Origin(scheme.encode(), host.encode(), port)
        self._spoken = httpcore.AsyncHTTP2Connection(name, stream, keepalive_expiry=idle_seconds)  # type: ignore[arg-type]

    async def ask(self, request: Request) -> Http2Answer:
        """Sends a request; returns when the answer's head is there. Raises ``ConnectionTakenError``, ``WireError``."""
        timeouts = {"connect": request.connect_timeout, "read": request.read_timeout, "write": request.read_timeout}
        framing = {"content-length": str(len(request.body))} if request.body else {}
        asked = httpcore.Request(
            request.method,
            httpcore.URL(scheme=request.scheme, host=request.host, port=request.port, target=request.target),
            headers=list({**request.headers, **framing}.items()),
            content=request.body or None,
            extensions={"timeout": timeouts},
        )
        with _ours():
            return Http2Answer(await self._spoken.handle_async_request(asked))

    def is_available(self) -> bool:
        """Whether it takes a request now."""
        return self._spoken.is_available()

    def is_idle(self) -> bool:
        """Whether nothing is under way."""
        return self._spoken.is_idle()

    def is_closed(self) -> bool:
        """Whether it has ended."""
        return self._spoken.is_closed()

    def has_expired(self) -> bool:
        """Whether it has been idle for too long, or the server has hung up."""
        return self._spoken.has_expired()

    async def aclose(self) -> None:
        """Ends it."""
        with _ours():
            await self._spoken.aclose()


class Http2Answer:
    """An answer whose body is still to be read."""

    def __init__(self, answer: httpcore.Response) -> None:
        self._answer = answer
        self.status: int = answer.status
        self.headers: Sequence[tuple[bytes, bytes]] = answer.headers

    async def aiter_stream(self) -> AsyncIterator[bytes]:
        """The body's parts. Raises ``WireError``."""
        with _ours():
            async for part in self._answer.aiter_stream():
                yield part

    async def aclose(self) -> None:
        """Ends the request; the connection goes on."""
        with _ours():
            await self._answer.aclose()


@contextlib.contextmanager
def _ours() -> Iterator[None]:
    """What went wrong in httpcore's words, in ours."""
    try:
        yield
    except httpcore.ConnectionNotAvailable as error:
        raise ConnectionTakenError("the connection takes no further request") from error
    except (httpcore.NetworkError, httpcore.ProtocolError, httpcore.TimeoutException, httpcore.UnsupportedProtocol) as error:
        raise WireError(str(error) or type(error).__name__) from error
