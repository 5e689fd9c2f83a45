"""``web``: the images of web pages, read over plain HTTP. A query is a page's URL."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from typing import ClassVar

from cosmop_common.errors import InvalidInputError

from cosmop_scraper.candidate import Candidate, SourceContext
from cosmop_scraper.fetch import Fetched
from cosmop_scraper.html_page import HtmlPage, read_page
from cosmop_scraper.robots import judge_tags
from cosmop_scraper.settings import Settings

_MAX_PAGE_BYTES = 16 << 20
_HTML = {"text/html", "application/xhtml+xml", ""}


class NotAPageError(InvalidInputError):
    """A query's URL that leads to something else than a HTML page."""


class WebSource:
    """Images that a page shows or links to, and those of the pages that follow it (``rel="next"``)."""

    name: ClassVar[str] = "web"
    description: ClassVar[str] = "images of a web page and of the pages that follow it; a query is a page's URL"
    options: ClassVar[Mapping[str, str]] = {"max_pages": "pages read for one query (default: 1000)"}

    def __init__(self, context: SourceContext) -> None:
        self._context = context
        self._max_pages = context.whole("max_pages", 1000, least=1)

    @classmethod
    def unavailable(cls, settings: Settings) -> str:  # noqa: ARG003 - the interface of all sources
        """Always available."""
        return ""

    async def find(self, query: str) -> AsyncGenerator[Candidate, None]:
        """Page by page. Raises ``FetchError`` for a page that cannot be had, ``NotAPageError``."""
        url, seen = query, set[str]()
        while url and url not in seen and len(seen) < self._max_pages:
            seen.add(url)
            answer = await self._context.fetcher.get(url, max_bytes=_MAX_PAGE_BYTES, accept="text/html,application/xhtml+xml;q=0.9,*/*;q=0.1")
            if answer.content_type not in _HTML or answer.cut_off:
                what = f"more than {_MAX_PAGE_BYTES >> 20} MiB" if answer.cut_off else answer.content_type
                raise NotAPageError(f"{url} is no web page but {what}: for a list of image URLs use the source urls")
            page = read_page(_text(answer), answer.url)
            for candidate in self._candidates(page, answer, query):
                yield candidate
            url = page.next_url

    async def close(self) -> None:
        """Holds nothing."""

    def _candidates(self, page: HtmlPage, answer: Fetched, query: str) -> list[Candidate]:
        respect, agent = self._context.scrape.respect_robots, self._context.settings.agent
        meta = judge_tags(page.robots, agent, f"robots meta tag of {answer.url}", respect=respect)
        header = judge_tags(answer.headers.get("x-robots-tag", []), agent, f"X-Robots-Tag of {answer.url}", respect=respect)
        verdict = answer.robots.stricter(meta).stricter(header)
        return [Candidate(i.url, i.page_url, query, i.title, robots=verdict) for i in page.images]


def _text(answer: Fetched) -> str:
    charset = answer.header("content-type").lower().partition("charset=")[2].strip("\"' ;") or "utf-8"
    try:
        return answer.body.decode(charset, "replace")
    except LookupError:
        return answer.body.decode("utf-8", "replace")
