"""What a sitemap says: pages, the images that it names for them, and further sitemaps (sitemaps.org protocol 0.9). Pure.

Bounds are the protocol's: 50 MiB unpacked and 50,000 entries a file. A document type with entities is refused: a
sitemap has none, and they are how XML is made to grow.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field
from xml.parsers import expat

from cosmop_common.errors import InvalidInputError

#: Of a file, unpacked.
MAX_BYTES = 50 << 20
MAX_ENTRIES = 50_000
_GZIP = b"\x1f\x8b"


class SitemapError(InvalidInputError):
    """A file that is no sitemap, or larger than one may be."""


@dataclass
class SitemapPage:
    """One page of the site."""

    url: str = ""
    #: Full-size images that the sitemap names (Google's image extension).
    images: list[str] = field(default_factory=list)


@dataclass
class Sitemap:
    """What one file says: pages, or the addresses of further sitemaps."""

    pages: list[SitemapPage] = field(default_factory=list)
    sitemaps: list[str] = field(default_factory=list)


def read_sitemap(data: bytes, url: str) -> Sitemap:
    """Reads a sitemap or a sitemap index, gzipped or not, or a list of URLs in plain text; ``url`` is its own, for errors.

    Raises:
        SitemapError: it is none.
    """
    data = _unpacked(data, url)
    if not data.lstrip(b"\xef\xbb\xbf \r\n\t").startswith(b"<"):
        lines = data.decode("utf-8", "replace").split()
        if not lines or not all(line.startswith(("http://", "https://")) for line in lines):
            raise SitemapError(f"{url} is no sitemap: neither XML nor a list of URLs")
        return Sitemap([SitemapPage(line) for line in lines[:MAX_ENTRIES]])
    reader = _Reader(url)
    parser = expat.ParserCreate(namespace_separator=" ")
    parser.StartElementHandler, parser.EndElementHandler, parser.CharacterDataHandler = reader.start, reader.end, reader.text
    parser.EntityDeclHandler = reader.entity
    try:
        parser.Parse(data, True)  # noqa: FBT003 - expat's interface: this is all there is
    except expat.ExpatError as error:
        raise SitemapError(f"{url} is no sitemap: {error}") from error
    if not reader.is_sitemap:
        raise SitemapError(f"{url} is XML, but no sitemap: it begins with <{reader.root}>")
    return reader.found


def _unpacked(data: bytes, url: str) -> bytes:
    if data.startswith(_GZIP):
        try:
            data = zlib.decompressobj(wbits=31).decompress(data, MAX_BYTES + 1)
        except zlib.error as error:
            raise SitemapError(f"{url} is gzipped and damaged: {error}") from error
    if len(data) > MAX_BYTES:
        raise SitemapError(f"{url} is larger than a sitemap may be ({MAX_BYTES >> 20} MiB)")
    return data


class _Reader:
    """Expat's handlers: elements by their local names, whatever prefix they have."""

    def __init__(self, url: str) -> None:
        self.found = Sitemap()
        self.root = ""
        self._url = url
        self._path: list[str] = []
        self._text = ""

    @property
    def is_sitemap(self) -> bool:
        return self.root in {"urlset", "sitemapindex"}

    def start(self, name: str, _attributes: dict[str, str]) -> None:
        namespace, _, local = name.rpartition(" ")
        self.root = self.root or local
        self._path.append("image:loc" if local == "loc" and "image" in namespace else local)
        self._text = ""
        if self._path == ["urlset", "url"] and len(self.found.pages) < MAX_ENTRIES:
            self.found.pages.append(SitemapPage())

    def text(self, words: str) -> None:
        self._text += words

    def end(self, _name: str) -> None:
        path, words = self._path, self._text.strip()
        if path == ["urlset", "url", "loc"] and self.found.pages:
            self.found.pages[-1].url = words
        elif path[-1] == "image:loc" and path[:2] == ["urlset", "url"] and self.found.pages:
            self.found.pages[-1].images.append(words)
        elif path == ["sitemapindex", "sitemap", "loc"] and len(self.found.sitemaps) < MAX_ENTRIES:
            self.found.sitemaps.append(words)
        path.pop()
        self._text = ""

    def entity(self, name: str, *_: object) -> None:
        raise SitemapError(f"{self._url} declares the entity {name!r}: a sitemap has none")
