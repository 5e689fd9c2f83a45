"""``web``: the images of web pages, read over plain HTTP. A query is a page's URL, or a site whose sitemap names its pages."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from typing import ClassVar
from urllib.parse import urljoin, urlsplit

from cosmop_common.errors import CosmopError, InvalidInputError

from cosmop_scraper.candidate import Candidate, SourceContext
from cosmop_scraper.errors import FetchError, SourceOptionError
from cosmop_scraper.fetch import Fetched
from cosmop_scraper.html_page import HtmlPage, read_page
from cosmop_scraper.robots import Verdict, judge_tags
from cosmop_scraper.settings import Settings
from cosmop_scraper.sitemap import MAX_BYTES, SitemapError, SitemapPage, read_sitemap
from cosmop_scraper.url import parse_url

log = logging.getLogger(__name__)

_MAX_PAGE_BYTES = 16 << 20
_HTML = {"text/html", "application/xhtml+xml", ""}
_MOST_SITEMAPS = 1000


class NotAPageError(InvalidInputError):
    """A query's URL that leads to something else than a HTML page."""


class WebSource:
    """Images that a page shows or links to, and those of the pages that follow it (``rel="next"``) or that a sitemap names."""

    name: ClassVar[str] = "web"
    description: ClassVar[str] = "images of a web page and of the pages that follow it; a query is a page's URL"
    options: ClassVar[Mapping[str, str]] = {
        "max_pages": "pages read for one query (default: 1000)",
        "sitemap": "true: a query is a site or a sitemap, and all pages that it names are read (default: false)",
    }

    def __init__(self, context: SourceContext) -> None:
        self._context = context
        self._max_pages = context.whole("max_pages", 1000, least=1)
        wanted = context.option("sitemap", "false").lower()
        if wanted not in {"true", "false"}:
            raise SourceOptionError(f"option 'sitemap' is {wanted!r}: expected true or false")
        self._by_sitemap = wanted == "true"

    @classmethod
    def unavailable(cls, settings: Settings) -> str:  # noqa: ARG003 - the interface of all sources
        """Always available."""
        return ""

    async def find(self, query: str) -> AsyncGenerator[Candidate, None]:
        """Page by page. Raises ``FetchError`` for a page or sitemap that cannot be had, ``NotAPageError``, ``SitemapError``."""
        if self._by_sitemap:
            async for candidate in self._pages_of_site(query):
                yield candidate
            return
        url, seen = query, set[str]()
        while url and url not in seen and len(seen) < self._max_pages:
            seen.add(url)
            page, verdict = await self._read(url)
            for image in page.images:
                yield Candidate(image.url, image.page_url, query, image.title, robots=verdict)
            url = page.next_url

    async def close(self) -> None:
        """Holds nothing."""

    async def _read(self, url: str) -> tuple[HtmlPage, Verdict]:
        """A page, and what it and its robots.txt say of its images."""
        answer = await self._context.fetcher.get(url, max_bytes=_MAX_PAGE_BYTES, accept="text/html,application/xhtml+xml;q=0.9,*/*;q=0.1")
        if answer.content_type not in _HTML or answer.cut_off:
            what = f"more than {_MAX_PAGE_BYTES >> 20} MiB" if answer.cut_off else answer.content_type
            raise NotAPageError(f"{url} is no web page but {what}: for a list of image URLs use the source urls")
        page = await asyncio.to_thread(read_page, _text(answer), answer.url)
        respect, agent = self._context.scrape.respect_robots, self._context.settings.agent
        meta = judge_tags(page.robots, agent, f"robots meta tag of {answer.url}", respect=respect)
        header = judge_tags(answer.headers.get("x-robots-tag", []), agent, f"X-Robots-Tag of {answer.url}", respect=respect)
        return page, answer.robots.stricter(meta).stricter(header)

    async def _pages_of_site(self, query: str) -> AsyncIterator[Candidate]:
        """Reads each page that the sitemaps name; one that cannot be had is left out, unless none can."""
        read, failure = 0, None
        async for page in self._sitemap_pages(query):
            if read == self._max_pages:
                return
            try:
                shown, verdict = await self._read(page.url)
            except (FetchError, NotAPageError) as error:
                log.info("a page of the sitemap is left out: %s", error)
                failure = failure or error
                continue
            read += 1
            for url in page.images:
                yield Candidate(url, page.url, query, robots=verdict)
            for image in shown.images:
                yield Candidate(image.url, image.page_url, query, image.title, robots=verdict)
        if failure and not read:
            raise failure

    async def _sitemap_pages(self, query: str) -> AsyncIterator[SitemapPage]:
        """Pages of a site, each once. A sitemap speaks for its own host only (sitemaps.org, "Sitemap file location")."""
        waiting, seen, named = await self._sitemaps(query), set[str](), set[str]()
        failure: CosmopError | None = None
        while waiting and len(seen) < _MOST_SITEMAPS:
            url = waiting.pop(0)
            if url in seen:
                continue
            seen.add(url)
            try:
                answer = await self._context.fetcher.get(url, max_bytes=MAX_BYTES, accept="application/xml,text/xml,*/*;q=0.5")
                if answer.cut_off:
                    raise SitemapError(f"{url} is larger than a sitemap may be ({MAX_BYTES >> 20} MiB)")
                sitemap = await asyncio.to_thread(read_sitemap, answer.body, url)
            except (FetchError, SitemapError) as error:
                log.info("a sitemap is left out: %s", error)
                failure = failure or error
                continue
            waiting += [urljoin(url, further) for further in sitemap.sitemaps]
            for page in sitemap.pages:
                if page.url not in named and urlsplit(page.url).netloc.lower() == urlsplit(url).netloc.lower():
                    named.add(page.url)
                    yield page
        if failure and not named:
            raise failure

    async def _sitemaps(self, query: str) -> list[str]:
        """The sitemap that a query is, or those that its site's robots.txt names, or the usual one."""
        url = parse_url(query)
        if url.target.partition("?")[0].lower().endswith((".xml", ".xml.gz", ".txt")):
            return [query]
        return await self._context.fetcher.robots.sitemaps(url.origin) or [f"{url.origin}/sitemap.xml"]


def _text(answer: Fetched) -> str:
    charset = answer.header("content-type").lower().partition("charset=")[2].strip("\"' ;") or "utf-8"
    try:
        return answer.body.decode(charset, "replace")
    except LookupError:
        return answer.body.decode("utf-8", "replace")
