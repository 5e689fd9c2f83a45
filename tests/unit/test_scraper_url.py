"""URLs: the plain ones are taken apart quickly, and exactly as httpx takes them apart."""

from __future__ import annotations

import random

import pytest
from cosmop_scraper import url as module
from cosmop_scraper.errors import UnsupportedUrlError
from cosmop_scraper.url import parse_url

NAMES = [
    "a.com",
    "A.com",
    "a-b.c0.test",
    "x_y.org",
    "xn--bcher-kva.de",
    "b\u00fccher.de",
    "127.0.0.1",
    "127.1",
    "[::1]",
    "localhost",
    "a..com",
    "a.com.",
    "-a.com",
]
PORTS = ["", ":80", ":443", ":8080", ":0", ":08080", ":x"]
PATHS = [
    "",
    "/",
    "/a.jpg",
    "/a/b/",
    "//a",
    "/./a",
    "/a/../b",
    "/a/.b",
    "/a%20b",
    "/a b",
    "/\u00e9",
    "/a;b",
    "/a?b=c&d=e/f.g",
    "/a?",
    "/a?b#c",
    "/a#b",
    "/@x",
    "/a:b",
    "/~x,y=z",
]


def test_the_quick_way_says_what_httpx_says() -> None:
    quick = 0
    for scheme in ("http", "https", "HTTP", "ftp"):
        for name in NAMES:
            for port in PORTS:
                for path in PATHS:
                    text = f"{scheme}://{name}{port}{path}"
                    if module._PLAIN.fullmatch(text):
                        quick += 1
                        assert parse_url(text) == module._parse(text), text
    assert quick == 96


def test_random_texts_are_no_exception() -> None:
    draw = random.Random(1)
    for _ in range(5000):
        text = f"http://a.test{''.join(draw.choices('abz09AZ./-_~,=&?%:#@+ ', k=draw.randint(0, 8)))}"
        if module._PLAIN.fullmatch(text):
            assert parse_url(text) == module._parse(text), text


def test_parts_of_what_is_not_plain() -> None:
    url = parse_url(" https://B\u00fccher.example:443/a b?c=\u00e9#there ")
    assert (str(url), url.host, url.ascii_host, url.port, url.netloc) == (
        "https://xn--bcher-kva.example/a%20b?c=%C3%A9",
        "b\u00fccher.example",
        "xn--bcher-kva.example",
        443,
        "xn--bcher-kva.example",
    )
    assert (url.target, url.origin) == ("/a%20b?c=%C3%A9", "https://xn--bcher-kva.example")
    assert parse_url("http://[::1]:8080").netloc == "[::1]:8080"


@pytest.mark.parametrize(
    "text", ["", "a.com/b.jpg", "ftp://a.com/b", "http://", "http:///b", "http://a.com:99999/", "javascript:alert(1)", "http://a\r\nb.com/"]
)
def test_what_is_no_url_is_said(text: str) -> None:
    with pytest.raises(UnsupportedUrlError):
        parse_url(text)
