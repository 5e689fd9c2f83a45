"""``openverse``: openly licensed images by the search of Openverse (API v1). A query is what one would type. No key is needed.

Anonymous callers may ask 20 times a minute and 200 times a day, and see the first pages only; a token
(``COSMOP_OPENVERSE_TOKEN``) raises that to 100 a minute. Licence and author come with each answer.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Mapping
from typing import Any, ClassVar

from cosmop_scraper.api import get_json
from cosmop_scraper.bookmark import Bookmark
from cosmop_scraper.candidate import Candidate, SourceContext
from cosmop_scraper.errors import HttpStatusError, RateLimitedError
from cosmop_scraper.settings import Settings
from cosmop_scraper.url import parse_url

log = logging.getLogger(__name__)

_ANONYMOUS_PAGE, _KEYED_PAGE = 20, 100
_ANONYMOUS_INTERVAL, _KEYED_INTERVAL = 60 / 20, 60 / 100
#: What the API says to those who ask for pages deeper than they may see.
_TOO_DEEP = {400, 401, 403}
_TOO_MANY = 429
_LIMITS = "without a key Openverse answers 200 requests a day; COSMOP_OPENVERSE_TOKEN raises that"


class OpenverseSource:
    """The image search of Openverse, page after page as far as one may see."""

    name: ClassVar[str] = "openverse"
    description: ClassVar[str] = "Openverse; no key needed, licence and author kept"
    options: ClassVar[Mapping[str, str]] = {
        "license": "licences by code, separated by commas, as cc0,by (default: all)",
        "category": "photograph, illustration or digitized_artwork (default: all)",
        "mature": "true includes what is marked as sensitive (default: false)",
    }

    def __init__(self, context: SourceContext) -> None:
        self._context = context
        self._api = context.settings.openverse_api
        token = context.settings.openverse_token.get_secret_value()
        self._headers = {"authorization": f"Bearer {token}"} if token else {}
        self._page_size = _KEYED_PAGE if token else _ANONYMOUS_PAGE
        context.fetcher.politeness.crawl_delay(parse_url(self._api).netloc, _KEYED_INTERVAL if token else _ANONYMOUS_INTERVAL)

    @classmethod
    def unavailable(cls, settings: Settings) -> str:  # noqa: ARG003 - the interface of all sources
        """Always available."""
        return ""

    async def find(self, query: str) -> AsyncGenerator[Candidate, None]:
        """Results in the search's order. Raises ``FetchError``, ``ApiAnswerError``, ``RateLimitedError``."""
        words = {"q": query, "page_size": str(self._page_size), "mature": self._context.option("mature", "false")}
        words |= {name: self._context.options[name] for name in ("license", "category") if name in self._context.options}
        bookmark = Bookmark(self._context, query)
        page = int(bookmark.page or 1)
        while True:
            answer = await self._ask(words, page, query)
            bookmark.turn(str(page))
            for result in answer.get("results", []):
                if found := candidate(result, query):
                    yield bookmark.saw(found)
            if page >= int(answer.get("page_count", 0)) or not answer.get("results"):
                return
            page += 1

    async def close(self) -> None:
        """Holds nothing."""

    async def _ask(self, words: Mapping[str, str], page: int, query: str) -> dict[str, Any]:
        """A page of results; an empty answer where it lies deeper than we may see."""
        try:
            return await get_json(self._context.fetcher, self._api, {**words, "page": str(page)}, self._headers)
        except HttpStatusError as error:
            if error.status == _TOO_MANY:
                raise RateLimitedError(f"{error}: {_LIMITS}; the run goes on at its page when it is submitted again") from error
            if page == 1 or error.status not in _TOO_DEEP:
                raise
            log.info("openverse shows no more than %d pages of %r to us", page - 1, query)
            return {}


def candidate(result: Mapping[str, Any], query: str) -> Candidate | None:
    """A result as a candidate; None where it has no image."""
    url = result.get("url")
    if not url:
        return None
    code = " ".join(filter(None, (str(result.get("license") or ""), str(result.get("license_version") or ""))))
    licence = " ".join(filter(None, (code, str(result.get("license_url") or ""))))
    return Candidate(url, result.get("foreign_landing_url") or "", query, result.get("title") or "", licence, result.get("creator") or "")
