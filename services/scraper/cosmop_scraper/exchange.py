"""One request and its answer, whatever version of HTTP carries them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

#: Scheme, host and port: what a connection leads to.
Origin = tuple[str, str, int]


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked. Headers hold ``host``."""

    scheme: str
    host: str
    port: int
    #: Path and query, as they are sent.
    target: str
    headers: Mapping[str, str]
    method: str = "GET"
    body: bytes = b""
    #: Seconds to connect, and without a sign of life while the answer is awaited.
    connect_timeout: float = field(default=10.0, compare=False)
    read_timeout: float = field(default=20.0, compare=False)

    @property
    def origin(self) -> Origin:
        """Where the request goes."""
        return self.scheme, self.host, self.port


class Answer(Protocol):
    """What came back: the head, and a body that is read as it comes. Close it."""

    @property
    def status(self) -> int:
        """HTTP status."""
        ...

    @property
    def headers(self) -> Sequence[tuple[bytes, bytes]]:
        """Header fields in order."""
        ...

    def aiter_stream(self) -> AsyncIterator[bytes]:
        """The body's parts, without transfer coding. Raises ``WireError``."""
        ...

    async def aclose(self) -> None:
        """Frees the connection, or closes it where the body was not read to its end."""
        ...


class Spoken(Protocol):
    """A connection on which one version of HTTP is spoken."""

    async def ask(self, request: Request) -> Answer:
        """Sends a request; returns when the answer's head is there. Raises ``WireError``, ``ConnectionTakenError``."""
        ...

    def is_available(self) -> bool:
        """Whether it takes a request now."""
        ...

    def is_idle(self) -> bool:
        """Whether nothing is under way."""
        ...

    def is_closed(self) -> bool:
        """Whether it has ended."""
        ...

    def has_expired(self) -> bool:
        """Whether it has been idle for too long, or the server has hung up."""
        ...

    async def aclose(self) -> None:
        """Ends it."""
        ...
