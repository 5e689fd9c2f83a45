"""What is read from pages: full-size images, next pages, robots words; never thumbnails."""

from __future__ import annotations

import pytest
from cosmop_scraper.errors import BlockedError, ConsentWallError, LayoutUnknownError
from cosmop_scraper.html_page import read_page
from cosmop_scraper.search_links import images_in_source, is_thumbnail, parse_imgres
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
