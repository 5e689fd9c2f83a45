"""What a site says of robots: robots.txt (RFC 9309), the X-Robots-Tag header, and a page's robots meta tag."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, replace

from cosmop_common.pb.cosmop.v1 import facts_pb2
from protego import Protego

from cosmop_scraper.errors import FetchError

ALLOWED = facts_pb2.ROBOTS_DECISION_ALLOWED
FORBIDDEN = facts_pb2.ROBOTS_DECISION_FORBIDDEN
OVERRIDDEN = facts_pb2.ROBOTS_DECISION_OVERRIDDEN
NOT_APPLICABLE = facts_pb2.ROBOTS_DECISION_NOT_APPLICABLE

#: Words that forbid keeping an image for a collection. ``noindex`` is about search results and does not.
_NO_USE = {"noai", "noimageai", "noimageindex"}
_TTL_SECONDS = 24 * 3600.0
#: What is asked again soon: a server that is ill now may be well in a minute.
_ILL_SECONDS = 60.0
_STALE_SECONDS = 3600.0
#: Origins whose rules are kept; the oldest are forgotten first.
_MOST_ORIGINS = 5000
_TOO_MANY_REQUESTS = 429
#: RFC 9309, section 2.5: at least 500 KiB must be read.
MAX_BYTES = 512 << 10


@dataclass(frozen=True, slots=True)
class Verdict:
    """What robots rules say of one URL, and which rule said it."""

    decision: facts_pb2.RobotsDecision.ValueType = ALLOWED
    detail: str = ""

    def stricter(self, other: Verdict) -> Verdict:
        """The one that allows less."""
        order = (NOT_APPLICABLE, ALLOWED, OVERRIDDEN, FORBIDDEN)
        return other if order.index(other.decision) > order.index(self.decision) else self


def forbidding(detail: str, *, respect: bool) -> Verdict:
    """A rule that forbids, obeyed or knowingly overridden."""
    return Verdict(FORBIDDEN if respect else OVERRIDDEN, detail)


def judge_tags(values: Iterable[str], agent: str, where: str, *, respect: bool) -> Verdict:
    """What X-Robots-Tag headers, or the contents of robots meta tags, say of the use of an image.

    A value may be for one robot only ("otherbot: noai"); then it counts for that robot alone.
    """
    for value in values:
        named, colon, rest = value.partition(":")
        words = value
        if colon and re.fullmatch(r"[\w.-]+", named.strip()) and named.strip().lower() not in {"unavailable_after", "max-snippet", "max-image-preview"}:
            if named.strip().lower() not in agent.lower():
                continue
            words = rest
        for word in (w.strip().lower() for w in words.split(",")):
            if word in _NO_USE:
                return forbidding(f"{where}: {word}", respect=respect)
    return Verdict()


#: Fetches a robots.txt: its status (0: the host cannot be reached) and its text.
Read = Callable[[str], Awaitable[tuple[int, str]]]


@dataclass
class _Rules:
    parsed: Protego | None
    detail: str
    until: float


class RobotsTxt:
    """The robots.txt of each origin, fetched once a day.

    A missing one (4xx) allows all; one that the server fails to serve (5xx, and 429) forbids all (RFC 9309, section 2.3.1).
    Where it cannot be fetched again after a day, the rules of yesterday hold for another hour.
    """

    def __init__(self, read: Read, agent: str, *, respect: bool) -> None:
        self._read = read
        self._agent = agent
        self._respect = respect
        self._rules: dict[str, _Rules] = {}
        self._locks: dict[str, asyncio.Lock] = {}

    async def judge(self, origin: str, url: str) -> Verdict:
        """Whether ``url`` of ``origin`` ("https://example.org:8443") may be fetched."""
        rules = await self._of(origin)
        if rules.parsed is None:
            return forbidding(rules.detail, respect=self._respect) if rules.detail else Verdict()
        if rules.parsed.can_fetch(url, self._agent):
            return Verdict()
        return forbidding(f"robots.txt of {origin} disallows it", respect=self._respect)

    async def crawl_delay(self, origin: str) -> float:
        """Seconds between requests that the site asks for; 0 where it does not, or is not obeyed."""
        rules = await self._of(origin)
        return float(rules.parsed.crawl_delay(self._agent) or 0) if rules.parsed and self._respect else 0.0

    async def sitemaps(self, origin: str) -> list[str]:
        """Sitemaps that robots.txt names."""
        rules = await self._of(origin)
        return [str(url) for url in rules.parsed.sitemaps] if rules.parsed else []

    async def _of(self, origin: str) -> _Rules:
        rules = self._rules.get(origin)
        if rules is not None and rules.until > time.monotonic():
            return rules
        lock = self._locks.setdefault(origin, asyncio.Lock())
        try:
            async with lock:
                rules = self._rules.get(origin)
                if rules is None or rules.until <= time.monotonic():
                    rules = await self._fresh(origin, rules)
                    self._rules.pop(origin, None)
                    self._rules[origin] = rules
        finally:
            if not lock.locked():
                self._locks.pop(origin, None)
        while len(self._rules) > _MOST_ORIGINS:
            self._rules.pop(next(iter(self._rules)))
        return rules

    async def _fresh(self, origin: str, old: _Rules | None) -> _Rules:
        try:
            status, text = await self._read(f"{origin}/robots.txt")
        except FetchError:
            if old is None:
                raise
            return replace(old, until=time.monotonic() + _STALE_SECONDS)
        return _rules(origin, status, text)


def _rules(origin: str, status: int, text: str) -> _Rules:
    until = time.monotonic() + _TTL_SECONDS
    if 200 <= status < 300:  # noqa: PLR2004
        return _Rules(Protego.parse(text), "", until)
    if 400 <= status < 500 and status != _TOO_MANY_REQUESTS:  # noqa: PLR2004
        return _Rules(None, "", until)
    return _Rules(None, f"robots.txt of {origin} answers with status {status}, which forbids all", time.monotonic() + _ILL_SECONDS)
