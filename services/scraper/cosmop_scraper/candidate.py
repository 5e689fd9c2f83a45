"""What a source finds, and the interface that every source has."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Protocol

from cosmop_common.collection import ScrapeSettings

from cosmop_scraper.errors import SourceOptionError
from cosmop_scraper.fetch import Fetcher
from cosmop_scraper.robots import Verdict
from cosmop_scraper.settings import Settings


@dataclass(frozen=True, slots=True)
class Candidate:
    """One image that a source has found and nobody has fetched yet."""

    #: Of the full-size image, never of a thumbnail; ``file:`` for a local one.
    image_url: str
    page_url: str = ""
    query: str = ""
    title: str = ""
    licence: str = ""
    author: str = ""
    #: A local file, read instead of fetched.
    path: Path | None = None
    #: What the page where it was found says of robots.
    robots: Verdict = field(default_factory=Verdict)


#: Keeps a file with the run, for a person to look at: name, bytes, media type.
Keep = Callable[[str, bytes, str], Awaitable[str]]


@dataclass(frozen=True)
class SourceContext:
    """What a source may use."""

    settings: Settings
    scrape: ScrapeSettings
    options: Mapping[str, str]
    fetcher: Fetcher
    keep: Keep
    #: At most so many new images are wanted; 0: all that there are.
    limit: int = 0
    #: What the source has remembered in this run, by key, through every restart.
    memory: Mapping[str, str] = field(default_factory=dict)
    #: Keeps a key and a value with the run.
    remember: Callable[[str, str], None] = lambda _key, _value: None
    #: How many of the first candidates of a query, as this attempt has met them, have all come to their end.
    ended: Callable[[str], int] = lambda _query: 0

    def recall(self, key: str) -> str:
        """What an earlier attempt of this run has remembered, or nothing."""
        return self.memory.get(key, "")

    def option(self, name: str, default: str) -> str:
        """An option's value."""
        return self.options.get(name, default)

    def whole(self, name: str, default: int, *, least: int = 0) -> int:
        """An option that is a whole number. Raises ``SourceOptionError``."""
        text = self.options.get(name, str(default))
        if not text.isdigit() or int(text) < least:
            raise SourceOptionError(f"option {name!r} is {text!r}: expected a whole number of at least {least}")
        return int(text)


class Source(Protocol):
    """Where images come from. One file in ``sources/``, one line in its registry.

    A source is made for one job, asked for each query in turn, and closed. It only finds: the downloader fetches,
    verifies and records. It may find the same image again and again; it stops when nothing new comes.
    """

    name: ClassVar[str]
    description: ClassVar[str]
    #: Options by name, each with its meaning.
    options: ClassVar[Mapping[str, str]]

    def __init__(self, context: SourceContext) -> None: ...

    @classmethod
    def unavailable(cls, settings: Settings) -> str:
        """Why it cannot run here now; empty when it can."""
        ...

    def find(self, query: str) -> AsyncGenerator[Candidate, None]:
        """Candidates of one query, in the source's own order."""
        ...

    async def close(self) -> None:
        """Lets go of what it holds."""
        ...
