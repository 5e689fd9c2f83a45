"""What a HTML page holds for a scraper: images at full size, the next page, what it says of robots. Pure.

A thumbnail that is a link is taken for what it is: the link's target is the image. ``/imgres?`` links, as image
searches write them, name the image and its page in their query.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser
from urllib.parse import urljoin, urlsplit

from cosmop_scraper.search_links import parse_imgres

#: Where lazy loaders keep what they will show, the full size first.
_LAZY = ("data-full-src", "data-full", "data-large_image", "data-original", "data-lazy-src", "data-lazy", "data-src")
_META_IMAGES = {"og:image", "og:image:url", "og:image:secure_url", "twitter:image", "twitter:image:src"}
_SRCSET_CHARACTERS = 20_000
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
    reader.end_picture()
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
        #: Inside a picture element: its title, and each candidate with its size.
        self._picture: list[tuple[float, str, str]] | None = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        if tag == "a":
            self.end_link()
            self._begin_link(values)
        elif tag == "picture":
            self.end_picture()
            self._picture = []
        elif tag == "img" or (tag == "source" and self._picture is not None):
            self._offer(values)
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
        elif tag == "picture":
            self.end_picture()

    def end_picture(self) -> None:
        """A picture is one image in several sizes and formats: the largest, and of equals the one that every browser shows, which comes last."""
        offered, self._picture = self._picture, None
        if offered:
            largest = max(reversed(offered), key=lambda o: o[0])
            self._see(largest[1], next((title for _, _, title in offered if title), ""))

    def _offer(self, values: dict[str, str]) -> None:
        size, url = _best_source(values)
        if self._picture is None:
            self._see(url, values.get("alt", ""))
        elif url:
            self._picture.append((size, url, values.get("alt", "")))

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
        elif {values.get("property", "").lower(), name} & _META_IMAGES:
            self._see(content, "")


def _best_source(values: dict[str, str]) -> tuple[float, str]:
    """Of an img or source tag: its largest srcset candidate with its size, what a lazy loader would load, or its src."""
    for name in ("srcset", "data-srcset", "data-lazy-srcset"):
        size, url = _largest(values.get(name, ""))
        if url:
            return size, url
    for name in (*_LAZY, "src"):
        if values.get(name) and not values[name].startswith("data:"):
            return 1.0, values[name]
    return 0.0, ""


def _largest(srcset: str) -> tuple[float, str]:
    best, best_size = "", 0.0
    for url, descriptor in _candidates(srcset):
        number = descriptor.partition(" ")[0][:-1]
        size = float(number) if number.replace(".", "", 1).isdigit() else 1.0
        if not url.startswith("data:") and size > best_size:
            best, best_size = url, size
    return best_size, best


def _candidates(srcset: str) -> Iterator[tuple[str, str]]:
    """URL and descriptor ("640w", "2x") of each candidate, as browsers read them: a URL ends at a space and may hold commas.

    Source: HTML, "parse a srcset attribute". Only so much is read that an absurd one costs nothing.
    """
    rest = srcset[:_SRCSET_CHARACTERS].lstrip(" \t\r\n\f,")
    while rest:
        url, *more = rest.split(None, 1)
        rest, descriptor = (more[0] if more else ""), ""
        if not url.endswith(","):
            descriptor, _, rest = rest.partition(",")
        yield url.rstrip(","), descriptor.strip()
        rest = rest.lstrip(" \t\r\n\f,")
