"""What a HTML page holds for a scraper: images at full size, the next page, what it says of robots. Pure.

A thumbnail that is a link is taken for what it is: the link's target is the image. ``/imgres?`` links, as image
searches write them, name the image and its page in their query.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from html.parser import HTMLParser
from urllib.parse import urljoin, urlsplit

from cosmop_scraper.search_links import parse_imgres

_IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif")


@dataclass(frozen=True, slots=True)
class FoundImage:
    """An image that a page shows or links to."""

    url: str
    #: The page that it is from; this page, or the one that an image search names.
    page_url: str
    title: str = ""


@dataclass
class HtmlPage:
    """What was found on a page."""

    images: list[FoundImage] = field(default_factory=list)
    next_url: str = ""
    #: Contents of robots meta tags, "robot: words" where they are for one robot.
    robots: list[str] = field(default_factory=list)


def read_page(html: str, url: str) -> HtmlPage:
    """Reads a page; ``url`` is its own, for relative links."""
    reader = _Reader(url)
    reader.feed(html)
    reader.close()
    reader.end_link()
    unique = {image.url: image for image in reversed(reader.page.images)}
    reader.page.images = list(reversed(unique.values()))
    return reader.page


class _Reader(HTMLParser):
    def __init__(self, url: str) -> None:
        super().__init__(convert_charrefs=True)
        self.page = HtmlPage()
        self._url = url
        self._base = url
        self._link: FoundImage | None = None
        self._thumbnail_title = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        if tag == "a":
            self.end_link()
            self._begin_link(values)
        elif tag == "img":
            self._see(_best_source(values), values.get("alt", ""))
        elif tag == "source" and values.get("srcset"):
            self._see(_largest(values["srcset"]), "")
        elif tag == "link":
            rels = values.get("rel", "").lower().split()
            if "next" in rels and values.get("href"):
                self.page.next_url = self.page.next_url or urljoin(self._base, values["href"])
        elif tag == "base" and values.get("href"):
            self._base = urljoin(self._url, values["href"])
        elif tag == "meta":
            self._read_meta(values)

    def handle_endtag(self, tag: str) -> None:
        if tag == "a":
            self.end_link()

    def end_link(self) -> None:
        """A link that leads to an image is that image; what it shows is a thumbnail, of which only the title is kept."""
        if self._link is not None:
            self.page.images.append(FoundImage(self._link.url, self._link.page_url, self._link.title or self._thumbnail_title))
        self._link, self._thumbnail_title = None, ""

    def _begin_link(self, values: dict[str, str]) -> None:
        href = values.get("href", "")
        if not href:
            return
        if "next" in values.get("rel", "").lower().split():
            self.page.next_url = self.page.next_url or urljoin(self._base, href)
            return
        target = urljoin(self._base, href)
        if result := parse_imgres(target):
            self._link = FoundImage(result.image_url, result.page_url or self._url, values.get("title", ""))
        elif target.startswith(("http://", "https://")) and urlsplit(target).path.lower().endswith(_IMAGE_SUFFIXES):
            self._link = FoundImage(target, self._url, values.get("title", ""))

    def _see(self, source: str, title: str) -> None:
        if self._link is not None:
            self._thumbnail_title = self._thumbnail_title or title
            return
        target = urljoin(self._base, source)
        if source and target.startswith(("http://", "https://")):
            self.page.images.append(FoundImage(target, self._url, title))

    def _read_meta(self, values: dict[str, str]) -> None:
        name, content = values.get("name", "").strip().lower(), values.get("content", "")
        if not content:
            return
        if name == "robots":
            self.page.robots.append(content)
        elif name.endswith("bot") or name == "cosmop-scraper":
            self.page.robots.append(f"{name}: {content}")
        elif values.get("property", "").lower() == "og:image":
            self._see(content, "")


def _best_source(values: dict[str, str]) -> str:
    """Of an img tag: its largest srcset candidate, what a lazy loader would load, or its src."""
    for name in ("srcset", "data-srcset"):
        if values.get(name):
            return _largest(values[name])
    for name in ("data-src", "data-original", "src"):
        if values.get(name) and not values[name].startswith("data:"):
            return values[name]
    return ""


def _largest(srcset: str) -> str:
    best, best_size = "", -1.0
    for part in srcset.split(", "):
        url, _, size = part.strip().rstrip(",").partition(" ")
        number = float(size.strip()[:-1]) if size.strip()[:-1].replace(".", "", 1).isdigit() else 1.0
        if url and not url.startswith("data:") and number > best_size:
            best, best_size = url, number
    return best
