"""TCP and TLS on asyncio's transports, with nothing in between: what is connected is handed to whoever speaks HTTP on it."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from typing import TypeVar, cast

from cosmop_scraper.errors import WireError, WireTimeoutError

#: Received and not yet read; above it the server has to wait.
_BUFFER_BYTES = 256 << 10
Taker = TypeVar("Taker", bound=asyncio.Protocol)


class _Protocol(asyncio.Protocol):
    """Gathers what comes until it is read."""

    def __init__(self) -> None:
        self.received = bytearray()
        self.ended = False
        self.error: Exception | None = None
        self.transport: asyncio.Transport | None = None
        self._reader: asyncio.Future[None] | None = None
        self._writer: asyncio.Future[None] | None = None
        self._full = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self.received += data
        if len(self.received) > _BUFFER_BYTES and self.transport is not None:
            self.transport.pause_reading()
            self._full = True
        _wake(self._reader)

    def eof_received(self) -> bool:
        self.ended = True
        _wake(self._reader)
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self.ended, self.error = True, exc
        _wake(self._reader)
        _wake(self._writer)

    def pause_writing(self) -> None:
        self._writer = asyncio.get_running_loop().create_future()

    def resume_writing(self) -> None:
        _wake(self._writer)

    async def read(self, most: int) -> bytes:
        """Up to ``most`` bytes; none when the other side has ended. Raises ``OSError``."""
        while not self.received and not self.ended:
            self._reader = asyncio.get_running_loop().create_future()
            await self._reader
        if not self.received and self.error is not None:
            raise self.error
        data = bytes(self.received[:most])
        del self.received[:most]
        if self._full and self.transport is not None and not self.ended:
            self._full = False
            self.transport.resume_reading()
        return data

    async def drained(self) -> None:
        """Returns when more may be written. Raises ``OSError``."""
        if self._writer is not None and not self._writer.done():
            await self._writer
        if self.error is not None:
            raise self.error


def _wake(future: asyncio.Future[None] | None) -> None:
    if future is not None and not future.done():
        future.set_result(None)


class Stream:
    """One connection."""

    def __init__(self, transport: asyncio.Transport, protocol: _Protocol) -> None:
        self._transport = transport
        self._protocol = protocol

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ASYNC109 - httpcore's interface
        """What has come. Raises ``WireError``."""
        if self._protocol.received:
            return await self._protocol.read(max_bytes)
        try:
            async with asyncio.timeout(timeout):
                return await self._protocol.read(max_bytes)
        except TimeoutError as error:
            raise WireTimeoutError("nothing comes") from error
        except OSError as error:
            raise WireError(str(error)) from error

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ASYNC109 - httpcore's interface
        """Sends bytes. Raises ``WireError``."""
        if not buffer:
            return
        try:
            self._transport.write(buffer)
            async with asyncio.timeout(timeout):
                await self._protocol.drained()
        except TimeoutError as error:
            raise WireTimeoutError("nothing more is taken") from error
        except OSError as error:
            raise WireError(str(error)) from error

    async def aclose(self) -> None:
        """Closes at once: nothing that matters is left to be sent."""
        self._transport.abort()

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str,
        timeout: float | None = None,  # noqa: ASYNC109 - of this step
    ) -> Stream:
        """Agrees on TLS. Raises ``WireError``."""
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(timeout):
                transport = await loop.start_tls(self._transport, self._protocol, ssl_context, server_hostname=server_hostname)
        except TimeoutError as error:
            self._transport.abort()
            raise WireTimeoutError("TLS is not agreed on") from error
        except (ssl.SSLError, OSError) as error:
            self._transport.abort()
            raise WireError(str(error)) from error
        assert transport is not None
        self._protocol.transport = transport
        return Stream(transport, self._protocol)

    def hand_over(self, take: Callable[[asyncio.Transport], Taker]) -> Taker:
        """Gives the connection to a protocol of its own; the stream is of no use any more."""
        taker = take(self._transport)
        self._transport.set_protocol(taker)
        if self._protocol.received:
            taker.data_received(bytes(self._protocol.received))
        if self._protocol.ended:
            taker.connection_lost(self._protocol.error)
        return taker

    @property
    def agreed(self) -> str | None:
        """The protocol that TLS has agreed on (RFC 7301), where it has."""
        tls = self._transport.get_extra_info("ssl_object")
        return tls.selected_alpn_protocol() if tls is not None else None

    def get_extra_info(self, info: str) -> object:
        """What httpcore asks of a stream: its TLS object, and whether an idle one has something to read, its end included."""
        if info == "ssl_object":
            return self._transport.get_extra_info("ssl_object")
        if info == "is_readable":
            return bool(self._protocol.received) or self._protocol.ended or self._transport.is_closing()
        return None


class Backend:
    """Connects."""

    async def connect_tcp(self, host: str, port: int, timeout: float | None = None) -> Stream:  # noqa: ASYNC109 - of this step
        """Connects to a host. Raises ``WireError``."""
        try:
            async with asyncio.timeout(timeout):
                transport, protocol = await asyncio.get_running_loop().create_connection(_Protocol, host, port)
        except TimeoutError as error:
            raise WireTimeoutError(f"{host} does not take a connection") from error
        except OSError as error:
            raise WireError(str(error)) from error
        return Stream(transport, protocol)
