"""The sources by name. A new one is a file here and a line below."""

from __future__ import annotations

from cosmop_scraper.candidate import Source
from cosmop_scraper.errors import UnknownSourceError
from cosmop_scraper.sources.folder import FolderSource
from cosmop_scraper.sources.google import GoogleSource
from cosmop_scraper.sources.openverse import OpenverseSource
from cosmop_scraper.sources.urls import UrlsSource
from cosmop_scraper.sources.web import WebSource
from cosmop_scraper.sources.wikimedia import WikimediaSource
from cosmop_scraper.sources.x import XSource

SOURCES: dict[str, type[Source]] = {
    "google": GoogleSource,
    "x": XSource,
    "openverse": OpenverseSource,
    "wikimedia": WikimediaSource,
    "web": WebSource,
    "folder": FolderSource,
    "urls": UrlsSource,
}


def source_named(name: str) -> type[Source]:
    """The source's class. Raises ``UnknownSourceError``."""
    if name not in SOURCES:
        raise UnknownSourceError(f"there is no source {name!r}: known are {', '.join(SOURCES)}")
    return SOURCES[name]
