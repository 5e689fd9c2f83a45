"""How an image search's result page names its images: the signals that have outlived every change of its markup. Pure.

``/imgres?`` links carry the image's URL, its page, its size and its thumbnail's id. Where a page has none, full URLs
still stand in its scripts as ``["https://...", height, width]``. Thumbnails (``data:`` URLs, ``encrypted-tbn*.gstatic.com``)
are never images.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import parse_qs, urlsplit

_IN_SCRIPT = re.compile(r'\["(https?:(?:[^"\\\s]|\\.)+)",(\d+),(\d+)\]')
_ESCAPE = re.compile(r"\\u([0-9a-fA-F]{4})|\\x([0-9a-fA-F]{2})|\\(.)")
_OWN_HOSTS = ("gstatic.com", "googleusercontent.com", "google.com", "ggpht.com")


@dataclass(frozen=True, slots=True)
class SearchResult:
    """One result of an image search."""

    image_url: str
    page_url: str = ""
    width: int = 0
    height: int = 0
    thumbnail_id: str = ""
    title: str = ""


def parse_imgres(href: str) -> SearchResult | None:
    """What an ``/imgres?`` link says; None for any other link, and for one that names a thumbnail."""
    parts = urlsplit(href)
    if parts.path != "/imgres":
        return None
    query = parse_qs(parts.query)

    def first(name: str) -> str:
        return query.get(name, [""])[0]

    image = first("imgurl")
    if not image.startswith(("http://", "https://")) or is_thumbnail(image):
        return None
    return SearchResult(image, first("imgrefurl"), _number(first("w")), _number(first("h")), first("tbnid"))


def is_thumbnail(url: str) -> bool:
    """Whether a URL is one of the search engine's own small copies."""
    host = (urlsplit(url).hostname or "").lower()
    return url.startswith("data:") or (host.startswith("encrypted-tbn") and host.endswith(".gstatic.com"))


def images_in_source(source: str) -> list[SearchResult]:
    """Full URLs with their sizes that stand in a rendered page's scripts: the fallback where links are missing."""
    found: dict[str, SearchResult] = {}
    for url, height, width in _IN_SCRIPT.findall(source):
        plain = _ESCAPE.sub(_unescape, url)
        host = (urlsplit(plain).hostname or "").lower()
        if not is_thumbnail(plain) and not any(host == own or host.endswith(f".{own}") for own in _OWN_HOSTS):
            found.setdefault(plain, SearchResult(plain, "", int(width), int(height)))
    return list(found.values())


def _unescape(match: re.Match[str]) -> str:
    code = match.group(1) or match.group(2)
    return chr(int(code, 16)) if code else match.group(3)


def _number(text: str) -> int:
    return int(text) if text.isdigit() else 0
