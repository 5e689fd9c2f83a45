"""``google``: Google Images in Chrome, as in the COSMOP paper (section III-A). A query is what one would type.

Read from the page is only what has outlived every change of its markup (``search_links``). Nothing is evaded: a
consent wall, a block and an unknown layout each end the job with an error of their own, and with the page's screenshot
and source kept. Google's robots.txt disallows ``/search``: a collection that respects robots is refused here.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar
from urllib.parse import urlencode, urlsplit

from cosmop_scraper.candidate import Candidate, SourceContext
from cosmop_scraper.errors import BlockedError, ConsentWallError, LayoutUnknownError, SearchForbiddenError, SearchPageError, SourceUnavailableError
from cosmop_scraper.robots import FORBIDDEN, Verdict
from cosmop_scraper.search_links import SearchResult, images_in_source, parse_imgres
from cosmop_scraper.settings import Settings
from cosmop_scraper.url import parse_url

if TYPE_CHECKING:
    from selenium.webdriver import Chrome as Driver

_READ = """
const links = [...document.querySelectorAll('a[href*="/imgres?"]')].map(a => {
  const image = a.querySelector('img');
  return [a.href, (image && image.alt) || a.title || ''];
});
const next = document.querySelector('a#pnnext, a[rel~="next"], link[rel~="next"]');
return {links: links, next: next ? next.href : '', url: location.href, source: links.length ? '' : document.documentElement.outerHTML};
"""
#: To the end of the page; with an argument that is true, a button that offers more is pressed.
_SCROLL = """
window.scrollTo(0, document.documentElement.scrollHeight);
if (!arguments[0]) return;
const more = /^\\s*((show|see|load)\\s+)?more(\\s+(images|results))?\\s*$|^\\s*mehr (ergebnisse|bilder)\\b|^\\s*plus de r.sultats\\b/i;
for (const b of document.querySelectorAll('button, input[type="button"], input[type="submit"], [role="button"]')) {
  if (b.offsetParent !== null && !b.disabled && more.test(b.value || b.innerText || b.getAttribute('aria-label') || '')) { b.click(); break; }
}
"""
_NO_RESULTS = re.compile(r"did not match any|no results (?:found|containing)|no image results|keine .{0,40}übereinstimm|ne correspond", re.IGNORECASE)
_POLL_SECONDS = 0.1
#: Pages or scrolls in a row without one new image after which a query ends.
_FRUITLESS = 3


@dataclass(frozen=True)
class PageState:
    """What a rendered result page shows now."""

    url: str
    links: list[tuple[str, str]]
    next_url: str
    #: The rendered source, read where there are no result links.
    source: str = ""

    @property
    def results(self) -> list[SearchResult]:
        """Its images: by its links, else by the full URLs in its source. Never a thumbnail."""
        parsed = ((parse_imgres(href), title) for href, title in self.links)
        return [replace(result, title=title) for result, title in parsed if result] or images_in_source(self.source)


class GoogleSource:
    """A browser that searches, scrolls and pages until nothing new comes."""

    name: ClassVar[str] = "google"
    description: ClassVar[str] = "Google Images in headless Chrome; needs respect_robots: false for google.com itself"
    options: ClassVar[Mapping[str, str]] = {
        "base_url": "another server that answers /search as Google Images does (default: https://www.google.com)",
        "language": "language of the search page (default: en)",
        "settle_ms": "how long a page may take to grow after scrolling (default: 2500)",
        "max_pages": "pages and scrolls of one query (default: 500)",
        "safe": "SafeSearch: active or off (default: active)",
    }

    def __init__(self, context: SourceContext) -> None:
        from cosmop_scraper.chrome import Chrome

        self._context = context
        self._base = context.option("base_url", "https://www.google.com").rstrip("/")
        self._settle = context.whole("settle_ms", 2500) / 1000
        self._max_pages = context.whole("max_pages", 500, least=1)
        self._chrome = Chrome(context.settings, context.fetcher.backend)
        self._verdict: Verdict | None = None
        self._seen: set[str] = set()

    @classmethod
    def unavailable(cls, settings: Settings) -> str:
        """Why there is no Chrome; empty where there is one."""
        from cosmop_scraper.chrome import find_browser

        try:
            find_browser(settings)
        except SourceUnavailableError as error:
            return str(error)
        return ""

    async def find(self, query: str) -> AsyncGenerator[Candidate, None]:
        """Results in the order of the page.

        Raises:
            SearchForbiddenError: robots.txt forbids the search and the collection respects it.
            ConsentWallError, BlockedError, LayoutUnknownError: the page shows no results and why.
            BrowserError: Chrome does not start or stay up.
        """
        words = {"q": query, "udm": "2", "hl": self._context.option("language", "en"), "safe": self._context.option("safe", "active")}
        url = f"{self._base}/search?{urlencode(words)}"
        verdict = await self._may_search(url)
        page, paged, fruitless = await self._open(url), False, 0
        for _ in range(self._max_pages):
            new = [r for r in page.results if r.image_url not in self._seen]
            self._seen.update(r.image_url for r in new)
            for result in new:
                yield Candidate(result.image_url, result.page_url or page.url, query, result.title, robots=verdict)
            fruitless = 0 if new else fruitless + 1
            paged = paged or bool(page.next_url)
            if not page.results or fruitless == _FRUITLESS or (paged and not page.next_url):
                return
            following = await self._open(page.next_url, first=False) if paged else await self._scrolled(page)
            if following is None:
                return
            page = following

    async def close(self) -> None:
        """Ends Chrome."""
        await self._chrome.close()

    async def _may_search(self, url: str) -> Verdict:
        """What robots.txt says of the search, asked once; also checks that the server is there and may be reached."""
        if self._verdict is None:
            parsed = parse_url(url)
            await self._context.fetcher.backend.resolve(parsed.ascii_host, parsed.port)
            self._verdict = await self._context.fetcher.judge(parsed)
            if self._verdict.decision == FORBIDDEN:
                raise SearchForbiddenError(
                    f"{self._verdict.detail} and this collection respects it: choose another source (openverse, wikimedia), "
                    "or set respect_robots: false, knowing that the site's operator asks you not to"
                )
        return self._verdict

    async def _open(self, url: str, *, first: bool = True) -> PageState:
        """A page of results; the first must show some or say that there are none. Raises ``SearchPageError`` for any other."""
        async with self._context.fetcher.politeness.slot(parse_url(url).netloc):
            page = await self._chrome.load(url, _read)
        if not page.results and (error := complaint(page.url, page.source, blocks_only=not first)):
            raise type(error)(f"{error} (kept with the run: {await self._keep(page.source)})")
        return page

    async def _scrolled(self, before: PageState) -> PageState | None:
        """Scrolls to the end until the page shows more; None when it does not grow any more."""

        def scroll(driver: Driver, press: bool = False) -> PageState:
            if not driver.current_url.startswith("http"):  # a new browser after a crash
                driver.get(before.url)
            driver.execute_script(_SCROLL, press)
            return _read(driver)

        shown = len(before.results)
        after = await self._chrome.run(lambda driver: scroll(driver, press=True))
        deadline = time.monotonic() + self._settle
        while True:
            if len(after.results) > shown or after.next_url:
                return after
            if error := complaint(after.url, after.source, blocks_only=True):
                raise type(error)(f"{error} (kept with the run: {await self._keep(after.source)})")
            if time.monotonic() > deadline:
                return None
            await asyncio.sleep(_POLL_SECONDS)
            after = await self._chrome.run(scroll)

    async def _keep(self, source: str) -> str:
        """Keeps the page's source and its screenshot; a search that is stopped ends the job, so that there is one."""
        picture = await self._chrome.run(lambda driver: driver.get_screenshot_as_png())
        await self._context.keep("google-page.html", source.encode(), "text/html")
        return await self._context.keep("google-page.png", picture, "image/png")


def _read(driver: Driver) -> PageState:
    seen = driver.execute_script(_READ)
    return PageState(seen["url"], [(href, title) for href, title in seen["links"]], seen["next"] or "", seen["source"])


def complaint(url: str, source: str, *, blocks_only: bool = False) -> SearchPageError | None:
    """Why a page without results is no result page; None where it says that there are none.

    Args:
        blocks_only: a page without results is no complaint in itself: only consent walls and blocks are.
    """
    parts = urlsplit(url)
    lower = source.lower()
    if (parts.hostname or "").startswith("consent.") or "consent.google." in lower or 'action="https://consent.' in lower:
        return ConsentWallError(f"{url} asks for consent to cookies before it shows results: open it once in that browser, or choose another source")
    if parts.path.startswith("/sorry") or "/sorry/" in lower or 'id="captcha-form"' in lower or "unusual traffic" in lower:
        return BlockedError(f"{url} takes this machine for a robot: wait, lower requests_per_second, or choose another source; blocks are not evaded")
    if blocks_only or images_in_source(source) or _NO_RESULTS.search(source):
        return None
    return LayoutUnknownError(f"{url} shows neither results nor the words that there are none: its layout has changed, and this source must be mended")
