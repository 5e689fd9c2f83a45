"""Absolute http(s) URLs, normalised. A plain one is taken apart by one regular expression; what is not plain goes to httpx."""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass

from cosmop_scraper.errors import UnsupportedUrlError

_PORTS = {"http": 80, "https": 443}
#: Lower case, a name and no address, no escapes, no dot segments, no default port, no fragment: httpx leaves it as it is
#: (tests/unit/test_scraper_url.py compares).
_PLAIN = re.compile(
    r"(?P<scheme>https?)://(?P<netloc>(?P<host>(?!xn--)[a-z0-9][a-z0-9-]*(?:\.(?!xn--)[a-z0-9][a-z0-9-]*)*\.[a-z]{2,63})(?P<port>:[1-9][0-9]{0,4})?)"
    r"(?P<target>/(?!\.)[A-Za-z0-9_~,=-]*(?:[./][A-Za-z0-9_~,=-]+)*/?(?:\?[A-Za-z0-9_~.,=&/-]+)?)",
    re.ASCII,
)


@dataclass(frozen=True, slots=True)
class Url:
    """An absolute http or https URL, without a fragment."""

    text: str
    scheme: str
    #: As people read it.
    host: str
    #: Of the connection: the scheme's own where none is named.
    port: int
    #: Host and port as HTTP names them: who is asked politely.
    netloc: str
    #: Path and query, as they are sent.
    target: str
    #: The host as DNS knows it.
    ascii_host: str

    @property
    def origin(self) -> str:
        """Scheme and host, as robots.txt counts them."""
        return f"{self.scheme}://{self.netloc}"

    def __str__(self) -> str:
        """The whole URL."""
        return self.text


@functools.lru_cache(1024)
def parse_url(url: str) -> Url:
    """An absolute http(s) URL, normalised: IDNA, escapes, no fragment. Raises ``UnsupportedUrlError``."""
    text = url.strip()
    if plain := _PLAIN.fullmatch(text):
        scheme, netloc, host, port, target = plain.group("scheme", "netloc", "host", "port", "target")
        number = int(port[1:]) if port else _PORTS[scheme]
        if not port or (number != _PORTS[scheme] and number < 1 << 16):
            return Url(text, scheme, host, number, netloc, target, host)
    return _parse(text)


def _parse(text: str) -> Url:
    import httpx  # most jobs never need it, and it takes longer to load than all else that fetches

    try:
        parsed = httpx.URL(text)
        if parsed.scheme not in _PORTS or not parsed.host or (parsed.port or 0) >= 1 << 16:
            raise UnsupportedUrlError(f"{text[:200]!r} is not an absolute http or https URL")
        parsed = parsed.copy_with(fragment=None) if parsed.fragment else parsed
        return Url(
            str(parsed),
            parsed.scheme,
            parsed.host,
            parsed.port or _PORTS[parsed.scheme],
            parsed.netloc.decode("ascii"),
            parsed.raw_path.decode("ascii"),
            parsed.raw_host.decode("ascii"),
        )
    except (httpx.InvalidURL, UnicodeError) as error:
        raise UnsupportedUrlError(f"{text[:200]!r} is no URL: {error}") from error
