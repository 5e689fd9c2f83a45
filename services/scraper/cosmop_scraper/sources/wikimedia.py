"""``wikimedia``: photographs of Wikimedia Commons by its search. A query is what one would type. No key is needed.

One request after the other, with a User-Agent that names a contact (the API's etiquette), and ``maxlag`` so that we wait
when its databases are behind. Licence and author come with each answer.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncGenerator, Mapping
from typing import Any, ClassVar

from cosmop_scraper.api import ApiAnswerError, get_json, plain_text
from cosmop_scraper.bookmark import Bookmark
from cosmop_scraper.candidate import Candidate, SourceContext
from cosmop_scraper.settings import Settings

log = logging.getLogger(__name__)

_API = "https://commons.wikimedia.org/w/api.php"
_FIELDS = "Artist|Credit|ImageDescription|LicenseShortName|LicenseUrl|ObjectName"
_LAG_SECONDS = 5.0
_LAG_TRIES = 12


class WikimediaSource:
    """The search of Wikimedia Commons, page after page until it has no more."""

    name: ClassVar[str] = "wikimedia"
    description: ClassVar[str] = "Wikimedia Commons; no key needed, licence and author kept"
    options: ClassVar[Mapping[str, str]] = {
        "base_url": f"another MediaWiki's api.php (default: {_API})",
        "page_size": "results of one request, at most 50 (default: 50)",
        "filter": "words of CirrusSearch added to each query (default: filetype:bitmap)",
    }

    def __init__(self, context: SourceContext) -> None:
        self._context = context
        self._api = context.option("base_url", _API)
        self._page_size = min(context.whole("page_size", 50, least=1), 50)
        self._filter = context.option("filter", "filetype:bitmap")

    @classmethod
    def unavailable(cls, settings: Settings) -> str:  # noqa: ARG003 - the interface of all sources
        """Always available; without COSMOP_CONTACT the API may slow us down."""
        return ""

    async def find(self, query: str) -> AsyncGenerator[Candidate, None]:
        """Results in the search's order. Raises ``FetchError``, ``ApiAnswerError``."""
        words = {
            "action": "query", "format": "json", "maxlag": "5", "generator": "search", "gsrsearch": f"{self._filter} {query}".strip(), "gsrnamespace": "6",
            "gsrlimit": str(self._page_size), "prop": "imageinfo", "iiprop": "url|size|mime|user|extmetadata", "iiextmetadatafilter": _FIELDS,
        }  # fmt: skip
        bookmark = Bookmark(self._context, query)
        following: dict[str, str] = json.loads(bookmark.page or "{}")
        bookmark.turn(bookmark.page)
        pages: dict[str, dict[str, Any]] = {}
        while True:
            answer = await self._ask(words | following)
            merge_pages(pages, answer)
            # Until "batchcomplete" a page may still lack what the next answer brings.
            if "batchcomplete" in answer:
                for page in sorted(pages.values(), key=lambda p: int(p.get("index", 0))):
                    if found := candidate(page, query):
                        yield bookmark.saw(found)
                pages = {}
            before, following = following, {key: str(value) for key, value in answer.get("continue", {}).items()}
            if not following.keys() - {"continue"}:  # that word alone leads nowhere
                return
            if following == before:
                raise ApiAnswerError(f"{self._api} continues where it was: its pages do not end")
            if not pages:
                bookmark.turn(json.dumps(following))

    async def close(self) -> None:
        """Holds nothing."""

    async def _ask(self, words: dict[str, str]) -> dict[str, Any]:
        for _ in range(_LAG_TRIES):
            answer = await get_json(self._context.fetcher, self._api, words)
            error = answer.get("error")
            if error is None:
                return answer
            if error.get("code") != "maxlag":
                raise ApiAnswerError(f"{self._api} refuses the search: {error.get('info') or error.get('code')}")
            log.info("%s is behind, waiting", self._api)
            await asyncio.sleep(_LAG_SECONDS)
        raise ApiAnswerError(f"{self._api} has been behind for {_LAG_SECONDS * _LAG_TRIES:.0f} s: try again later")


def merge_pages(pages: dict[str, dict[str, Any]], answer: Mapping[str, Any]) -> None:
    """Adds an answer's pages to those of earlier answers of the same batch; lists grow, other values are replaced."""
    for key, page in answer.get("query", {}).get("pages", {}).items():
        known = pages.setdefault(key, {})
        for name, value in page.items():
            known[name] = [*known.get(name, []), *value] if isinstance(value, list) else value


def candidate(page: Mapping[str, Any], query: str) -> Candidate | None:
    """A page of the API's answer as a candidate; None where it has no image."""
    info: dict[str, Any] = next(iter(page.get("imageinfo", [])), {})
    url = info.get("url", "")
    if not url:
        return None
    metadata = info.get("extmetadata", {})

    def field(name: str) -> str:
        return plain_text(metadata.get(name, {}).get("value"))

    licence = " ".join(filter(None, (field("LicenseShortName"), field("LicenseUrl"))))
    title = field("ObjectName") or str(page.get("title", "")).removeprefix("File:")
    return Candidate(url, info.get("descriptionurl", ""), query, title, licence, field("Artist") or str(info.get("user", "")))
