"""What is read from pages: full-size images, next pages, robots words; never thumbnails."""

from __future__ import annotations

import gzip
from collections.abc import Callable

import pytest
from cosmop_scraper.errors import BlockedError, ConsentWallError, LayoutUnknownError
from cosmop_scraper.html_page import read_page
from cosmop_scraper.search_links import images_in_source, is_thumbnail, parse_imgres
from cosmop_scraper.sitemap import MAX_BYTES, SitemapError, read_sitemap
from cosmop_scraper.sources.google import complaint

PAGE = "https://example.org/gallery/index.html"


def urls(html: str) -> list[str]:
    return [image.url for image in read_page(html, PAGE).images]


@pytest.mark.parametrize(
    ("html", "expected"),
    [
        ('<img src="a.jpg">', ["https://example.org/gallery/a.jpg"]),
        ('<img src="data:image/png;base64,AAAA">', []),
        ('<img src="s.jpg" srcset="m.jpg 640w, l.jpg 1280w">', ["https://example.org/gallery/l.jpg"]),
        ('<img src="s.jpg" srcset="m.jpg, l.jpg 2x">', ["https://example.org/gallery/l.jpg"]),
        ('<img src="data:image/gif;base64,R0" data-src="/lazy.jpg">', ["https://example.org/lazy.jpg"]),
        ('<a href="full.JPG"><img src="thumb.jpg"></a>', ["https://example.org/gallery/full.JPG"]),
        ('<a href="page.html"><img src="shown.jpg"></a>', ["https://example.org/gallery/shown.jpg"]),
        ('<a href="/full.png">text</a>', ["https://example.org/full.png"]),
        ('<a href="one.jpg"><img src="t1.jpg"><a href="two.jpg">', ["https://example.org/gallery/one.jpg", "https://example.org/gallery/two.jpg"]),
        ('<base href="https://cdn.example/x/"><img src="a.jpg">', ["https://cdn.example/x/a.jpg"]),
        ('<picture><source srcset="b.webp 2x"></picture>', ["https://example.org/gallery/b.webp"]),
        (
            '<picture><source type="image/avif" srcset="s.avif 400w, l.avif 900w"><img src="f.jpg" srcset="l.jpg 900w" alt="x"></picture><img src="b.jpg">',
            ["https://example.org/gallery/l.jpg", "https://example.org/gallery/b.jpg"],
        ),
        ('<picture><source srcset="big.webp 1600w"><img src="small.jpg"></picture>', ["https://example.org/gallery/big.webp"]),
        ('<video><source src="v.mp4" srcset="no.jpg"></video>', []),
        ('<img srcset="a,b.jpg 1x,c.jpg 2x">', ["https://example.org/gallery/c.jpg"]),
        ('<img srcset="data:image/gif;base64,R0 1x" data-srcset="m.jpg 1x, l.jpg 1.5x" src="s.jpg">', ["https://example.org/gallery/l.jpg"]),
        ('<img src="s.gif" data-lazy-src="l.jpg"><noscript><img src="l.jpg"></noscript>', ["https://example.org/gallery/l.jpg"]),
        ('<img src="s.jpg" data-full="full.jpg">', ["https://example.org/gallery/full.jpg"]),
        ('<meta name="twitter:image" content="t.jpg">', ["https://example.org/gallery/t.jpg"]),
        ('<meta http-equiv="refresh" content="0;url=/elsewhere.jpg">', []),
        ('<img srcset="' + "," * 200_000 + '">', []),
        ('<meta property="og:image" content="/og.jpg">', ["https://example.org/og.jpg"]),
        ('<img src="a.jpg"><img src="a.jpg">', ["https://example.org/gallery/a.jpg"]),
        ('<a href="mailto:x@y.jpg">m</a><a href="javascript:x.jpg">j</a><img>', []),
        ("<a href='x.jpg", []),
    ],
)
def test_images_of_a_page(html: str, expected: list[str]) -> None:
    assert urls(html) == expected


def test_a_result_link_names_the_image_its_page_and_its_title() -> None:
    href = "/imgres?imgurl=https%3A%2F%2Fcdn.example%2Fa%20b.jpg&amp;imgrefurl=https%3A%2F%2Fnews.example%2Fstory&amp;w=800&amp;h=600&amp;tbnid=xyz"
    (image,) = read_page(f'<a href="{href}"><img alt="a border" src="data:image/jpeg;base64,AA"></a>', PAGE).images
    assert (image.url, image.page_url, image.title) == ("https://cdn.example/a b.jpg", "https://news.example/story", "a border")
    result = parse_imgres("https://www.google.com" + href.replace("&amp;", "&"))
    assert result is not None
    assert (result.width, result.height, result.thumbnail_id) == (800, 600, "xyz")


@pytest.mark.parametrize("html", ['<a rel="next" href="?start=50">', '<link rel="next" href="?start=50">', '<a rel="nofollow next" href="?start=50">'])
def test_the_next_page(html: str) -> None:
    assert read_page(html, PAGE).next_url == f"{PAGE}?start=50"


def test_robots_words_of_a_page() -> None:
    html = '<meta name="robots" content="noai"><meta name="GoogleBot" content="noindex"><meta name="description" content="noai">'
    assert read_page(html, PAGE).robots == ["noai", "googlebot: noindex"]


@pytest.mark.parametrize("url", ["data:image/png;base64,AA", "https://encrypted-tbn0.gstatic.com/images?q=tbn:x"])
def test_thumbnails_are_no_images(url: str) -> None:
    assert is_thumbnail(url)
    assert parse_imgres(f"/imgres?imgurl={url}") is None


def test_full_urls_in_a_script_are_the_fallback() -> None:
    source = (
        r'x=[["https://encrypted-tbn0.gstatic.com/images?q\u003dtbn:1",183,275],["https://cdn.example/p.jpg?w\u003d9",1067,1600]],'
        r'["https://lh3.googleusercontent.com/a.png",64,64],["https://cdn.example/p.jpg?w\u003d9",1067,1600]'
    )
    (found,) = images_in_source(source)
    assert (found.image_url, found.width, found.height) == ("https://cdn.example/p.jpg?w=9", 1600, 1067)


@pytest.mark.parametrize(
    ("url", "source", "error"),
    [
        ("https://consent.google.com/m?continue=x", "<html>", ConsentWallError),
        ("https://www.google.com/search", '<form action="https://consent.google.com/save">', ConsentWallError),
        ("https://www.google.com/sorry/index", "<html>", BlockedError),
        ("https://www.google.com/search", "Our systems have detected unusual traffic", BlockedError),
        ("https://www.google.com/search", "<div class=new>hello</div>", LayoutUnknownError),
    ],
)
def test_a_page_without_results_says_why(url: str, source: str, error: type[Exception]) -> None:
    assert isinstance(complaint(url, source), error)


def test_no_results_are_no_error() -> None:
    assert complaint("https://www.google.com/search", "Your search did not match any image results.") is None
    assert complaint("https://www.google.com/search", '["https://cdn.example/p.jpg",1067,1600]') is None


SITEMAP = b"""<?xml version="1.0" encoding="UTF-8"?>
<urlset xmlns="http://www.sitemaps.org/schemas/sitemap/0.9" xmlns:i="http://www.google.com/schemas/sitemap-image/1.1">
  <url><loc> https://a.example/1 </loc><i:image><i:loc>https://cdn.example/1.jpg</i:loc></i:image></url>
  <url><loc>https://a.example/2</loc><lastmod>2026-01-01</lastmod></url>
</urlset>"""


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_a_sitemap_names_pages_and_their_images(pack: Callable[[bytes], bytes]) -> None:
    found = read_sitemap(pack(SITEMAP), "u")
    assert [(p.url, p.images) for p in found.pages] == [("https://a.example/1", ["https://cdn.example/1.jpg"]), ("https://a.example/2", [])]


def test_a_sitemap_index_and_a_list() -> None:
    index = b'<sitemapindex xmlns="http://www.sitemaps.org/schemas/sitemap/0.9"><sitemap><loc>https://a.example/s1.xml</loc></sitemap></sitemapindex>'
    assert read_sitemap(index, "u").sitemaps == ["https://a.example/s1.xml"]
    assert [p.url for p in read_sitemap(b"https://a.example/1\nhttps://a.example/2\n", "u").pages] == ["https://a.example/1", "https://a.example/2"]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"<html><body>404</body></html>", "begins with <html>"),
        (b"<urlset><url>", "no sitemap"),
        (b"", "neither XML nor a list"),
        (gzip.compress(b"x" * 100)[:20], "neither XML|damaged"),
        (gzip.compress(b" " * (MAX_BYTES + 1)), "larger than a sitemap may be"),
        (b'<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]><urlset><url><loc>&b;</loc></url></urlset>', "declares the entity"),
    ],
)
def test_what_is_no_sitemap_says_so(data: bytes, words: str) -> None:
    with pytest.raises(SitemapError, match=words):
        read_sitemap(data, "https://a.example/sitemap.xml")
