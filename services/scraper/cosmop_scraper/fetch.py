"""One URL to its bytes: redirects, robots, pace, retries and bounds. Everything here is HTTP; nothing here knows images.

HTTP/1.1 and HTTP/2 are spoken over connections of our own (``connections``), each made to an address that was judged
(``addresses``); a scraper needs no cookies and no redirect that it has not looked at.
"""

from __future__ import annotations

import asyncio
import email.utils
import logging
import time
import zlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from urllib.parse import urljoin

from cosmop_scraper.addresses import GuardedBackend
from cosmop_scraper.connections import Connections
from cosmop_scraper.errors import (
    FetchError,
    FetchTimeoutError,
    HttpStatusError,
    RobotsForbiddenError,
    TooManyRedirectsError,
    UnsupportedUrlError,
    WireError,
    WireTimeoutError,
)
from cosmop_scraper.exchange import Answer, Request
from cosmop_scraper.politeness import Politeness
from cosmop_scraper.pressure import Memory
from cosmop_scraper.robots import FORBIDDEN, MAX_BYTES, RobotsTxt, Verdict
from cosmop_scraper.settings import Settings
from cosmop_scraper.url import Url, parse_url

log = logging.getLogger(__name__)

_REDIRECTS = {301, 302, 303, 307, 308}
_OVERLOADED = {429, 503}
_CONNECTIONS = 256
_IDLE_SECONDS = 15.0
_RETRY_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Fetched:
    """What came of a request that succeeded."""

    #: After redirects.
    url: str
    status: int
    headers: Mapping[str, list[str]]
    body: bytes
    #: The body is longer than the cap; ``body`` is empty then.
    cut_off: bool
    robots: Verdict

    def header(self, name: str) -> str:
        """The first value of a header, or nothing."""
        return next(iter(self.headers.get(name, [])), "")

    @property
    def content_type(self) -> str:
        """Media type as claimed, without parameters."""
        return self.header("content-type").partition(";")[0].strip().lower()


@dataclass
class Fetcher:
    """Fetches URLs for one job. As a context manager it keeps its connections open in between."""

    settings: Settings
    politeness: Politeness
    respect_robots: bool
    allow_private: bool
    #: Of all bodies that are being read; what comes after counts its bytes here too.
    memory: Memory = field(init=False)
    _connections: Connections = field(init=False)
    robots: RobotsTxt = field(init=False)

    def __post_init__(self) -> None:
        """Connects when it is used."""
        self.memory = Memory(self.settings.memory_bytes)
        self.backend = GuardedBackend(allow_private=self.allow_private)
        self._connections = Connections(self.backend, most=_CONNECTIONS, idle_seconds=_IDLE_SECONDS)
        self.robots = RobotsTxt(self._read_robots, self.settings.agent.partition("/")[0], respect=self.respect_robots)

    async def close(self) -> None:
        """Closes all connections."""
        await self._connections.close()

    async def get(self, url: str, *, max_bytes: int, accept: str = "*/*", headers: Mapping[str, str] | None = None, robots: bool = True) -> Fetched:
        """Fetches a URL, trying again where the host is overloaded or away for a moment.

        Args:
            max_bytes: of the body; a longer one is cut off and said to be.
            headers: further request headers.
            robots: False for an API, whose own terms govern, and for robots.txt itself.

        Raises:
            FetchError: see its subclasses.
        """
        for attempt in range(1, self.settings.fetch_attempts + 1):
            try:
                async with asyncio.timeout(None) as clock:
                    return await self._follow(parse_url(url), max_bytes, {"accept": accept, **(headers or {})}, robots=robots, clock=clock)
            except TimeoutError as error:
                failure: FetchError = FetchTimeoutError(f"{url} did not end within {self.settings.download_seconds:.0f} s")
                failure.transient = False
                raise failure from error
            except FetchError as error:
                retry_after = getattr(error, "retry_after", None) or 0.0
                if not error.transient or attempt == self.settings.fetch_attempts or retry_after > self.settings.max_retry_after:
                    raise
                await asyncio.sleep(_RETRY_SECONDS * 2 ** (attempt - 1))
        raise AssertionError("the last attempt returns or raises")

    async def judge(self, url: Url) -> Verdict:
        """What robots.txt says of a URL; its Crawl-delay is kept."""
        origin = url.origin
        verdict = await self.robots.judge(origin, str(url))
        if delay := await self.robots.crawl_delay(origin):
            self.politeness.crawl_delay(url.netloc, delay)
        return verdict

    async def _follow(self, url: Url, max_bytes: int, headers: dict[str, str], *, robots: bool, clock: asyncio.Timeout) -> Fetched:
        verdict = Verdict()
        for _ in range(self.settings.max_redirects + 1):
            if robots:
                verdict = verdict.stricter(await self.judge(url))
                if verdict.decision == FORBIDDEN:
                    raise RobotsForbiddenError(str(url), verdict.detail)
            async with self.politeness.slot(url.netloc):
                # The clock runs from here: waiting for one's turn is not the server's fault.
                clock.reschedule(asyncio.get_running_loop().time() + self.settings.download_seconds)
                answer = await self._request(url, max_bytes, headers, verdict, clock)
            clock.reschedule(None)
            if answer.status not in _REDIRECTS or not answer.header("location"):
                return answer
            target = parse_url(urljoin(str(url), answer.header("location")))
            if target.scheme == "http" and url.scheme == "https":
                headers = {k: v for k, v in headers.items() if k != "authorization"}
            if target.netloc != url.netloc:
                headers = {k: v for k, v in headers.items() if k != "authorization"}
            url = target
        raise TooManyRedirectsError(f"{url} is one redirect more than the {self.settings.max_redirects} that are followed")

    async def _request(self, url: Url, max_bytes: int, headers: dict[str, str], verdict: Verdict, clock: asyncio.Timeout) -> Fetched:
        request = Request(
            url.scheme,
            url.ascii_host,
            url.port,
            url.target,
            {"host": url.netloc, "user-agent": self.settings.agent, "accept-encoding": "gzip, deflate", **headers},
            connect_timeout=self.settings.connect_timeout,
            read_timeout=self.settings.read_timeout,
        )
        try:
            async with self._connections.answer(request) as response:
                return await self._read(url, response, max_bytes, verdict, clock)
        except WireTimeoutError as error:
            self.politeness.complain(url.netloc, None)
            raise FetchTimeoutError(f"{url} does not answer in time: {error}") from error
        except (WireError, OSError) as error:
            raise FetchError(f"{url} cannot be fetched: {error or type(error).__name__}") from error

    async def _read(self, url: Url, response: Answer, max_bytes: int, verdict: Verdict, clock: asyncio.Timeout) -> Fetched:
        fields: dict[str, list[str]] = {}
        for name, value in response.headers:
            fields.setdefault(name.decode("latin-1").lower(), []).append(value.decode("latin-1"))
        host = url.netloc
        if response.status >= 400:  # noqa: PLR2004
            retry_after = _seconds(fields.get("retry-after", [""])[0])
            if response.status in _OVERLOADED:
                self.politeness.complain(host, retry_after)
            raise HttpStatusError(str(url), response.status, retry_after)
        self.politeness.content(host)
        if response.status in _REDIRECTS:
            return Fetched(str(url), response.status, fields, b"", cut_off=False, robots=verdict)
        length = fields.get("content-length", [""])[0]
        encoding = fields.get("content-encoding", [""])[0].strip().lower()
        if length.isdigit() and int(length) > max_bytes:
            return Fetched(str(url), response.status, fields, b"", cut_off=True, robots=verdict)
        with self.memory.share() as share:
            body = await _bounded(response, max_bytes, encoding, str(url), lambda size: share.grow(size, clock))
        if length.isdigit() and body is not None and not encoding and len(body) != int(length):
            raise FetchError(f"{url} ended after {len(body)} of {length} bytes")
        return Fetched(str(url), response.status, fields, body or b"", cut_off=body is None, robots=verdict)

    async def _read_robots(self, url: str) -> tuple[int, str]:
        try:
            answer = await self.get(url, max_bytes=MAX_BYTES, robots=False)
        except HttpStatusError as error:
            return error.status, ""
        except TooManyRedirectsError:
            return 404, ""
        return answer.status, answer.body.decode("utf-8", "replace")


async def _bounded(response: Answer, max_bytes: int, encoding: str, url: str, grow: Callable[[int], Awaitable[None]]) -> bytes | None:
    """The body, decoded; None when it grows past the cap, on the wire or unpacked. ``grow`` is asked before each part is kept."""
    unpack = zlib.decompressobj(wbits=47) if encoding in {"gzip", "x-gzip", "deflate"} else None
    if encoding not in {"", "identity"} and unpack is None:
        raise UnsupportedUrlError(f"{url} comes in the encoding {encoding!r}, which was not asked for")
    parts: list[bytes] = []
    size = 0
    async for part in response.aiter_stream():
        chunk = part
        if unpack is not None:
            try:
                chunk = unpack.decompress(part, max_bytes + 1 - size)
            except zlib.error as error:
                raise UnsupportedUrlError(f"{url} claims to be {encoding} and is not: {error}") from error
        size += len(chunk)
        if size > max_bytes:
            return None
        await grow(len(chunk))
        parts.append(chunk)
    if unpack is not None and parts and not unpack.eof:
        raise FetchError(f"{url} ended before its {encoding} data did")
    return b"".join(parts)


def _seconds(retry_after: str) -> float | None:
    """Seconds that a Retry-After header asks for: a number, or a date (RFC 9110, section 10.2.3)."""
    if not retry_after:
        return None
    if retry_after.strip().isdigit():
        return float(retry_after)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(retry_after).timestamp() - time.time())
    except (ValueError, TypeError, OverflowError):
        return None
