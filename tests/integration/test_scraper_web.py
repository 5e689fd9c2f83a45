"""The source ``web``: pages, sitemaps, and what each of them says of robots."""

from __future__ import annotations

import gzip
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from cosmop_common.collection import ScrapeSettings
from cosmop_common.pb.cosmop.v1 import facts_pb2
from cosmop_scraper.candidate import Candidate, SourceContext
from cosmop_scraper.errors import HttpStatusError, RobotsForbiddenError, SourceOptionError
from cosmop_scraper.fetch import Fetcher
from cosmop_scraper.politeness import Politeness
from cosmop_scraper.robots import FORBIDDEN
from cosmop_scraper.settings import Settings
from cosmop_scraper.sitemap import SitemapError
from cosmop_scraper.sources import SOURCES
from scraper_servers import Answer, LocalServer, serving

Ask = Callable[..., Awaitable[list[Candidate]]]


@pytest.fixture
async def ask() -> AsyncIterator[Ask]:
    """Asks the source one query."""
    fetchers: list[Fetcher] = []

    async def keep(name: str, data: bytes, media_type: str) -> str:
        return name

    async def run(query: str, **options: str) -> list[Candidate]:
        settings = Settings(fetch_attempts=1)
        fetchers.append(Fetcher(settings, Politeness(1000, 4), respect_robots=True, allow_private=True))
        source = SOURCES["web"](SourceContext(settings, ScrapeSettings(), options, fetchers[-1], keep))
        return [candidate async for candidate in source.find(query)]

    yield run
    for fetcher in fetchers:
        await fetcher.close()


def html(body: str, **headers: str) -> Answer:
    return lambda request: request.answer(body.encode(), content_type="text/html; charset=utf-8", **headers)


def urlset(server: LocalServer, *paths: str, more: str = "") -> bytes:
    entries = "".join(f"<url><loc>{server.origin}{path}</loc></url>" for path in paths)
    return f'<urlset xmlns="http://www.sitemaps.org/schemas/sitemap/0.9" xmlns:image="http://www.google.com/schemas/sitemap-image/1.1">{entries}{more}</urlset>'.encode()


async def test_a_site_is_read_by_the_sitemaps_that_its_robots_txt_names(ask: Ask) -> None:
    async with serving({}) as server:
        index = f"<sitemapindex><sitemap><loc>{server.origin}/one.xml.gz</loc></sitemap><sitemap><loc>/two.xml</loc></sitemap><sitemap><loc>/index.xml</loc></sitemap></sitemapindex>"
        named = f"<url><loc>{server.origin}/p3</loc><image:image><image:loc>https://cdn.example/full.jpg</image:loc></image:image></url>"
        elsewhere = "<url><loc>https://other.example/p</loc></url>"
        robots = f"User-agent: *\nDisallow: /secret\nDisallow: /hidden.xml\nSitemap: {server.origin}/index.xml\nSitemap: {server.origin}/hidden.xml\n"
        server.answers |= {
            "/robots.txt": lambda r: r.answer(robots.encode()),
            "/index.xml": lambda r: r.answer(index.encode()),
            "/one.xml.gz": lambda r: r.answer(gzip.compress(urlset(server, "/p1", "/secret", "/gone", "/p2"))),
            "/two.xml": lambda r: r.answer(urlset(server, "/p2", more=named + elsewhere)),
            "/p1": html("<img src='/1.jpg'>"),
            "/p2": html("<meta name='robots' content='noai, noimageai'><img src='/2.jpg'>"),
            "/p3": html("<img src='/3.jpg'>", x_robots_tag="noimageai"),
            "/secret": html("<img src='/secret.jpg'>"),
        }
        found = await ask(server.origin, sitemap="true")
    by_url = {c.image_url.removeprefix(server.origin): c for c in found}
    assert list(by_url) == ["/1.jpg", "/2.jpg", "https://cdn.example/full.jpg", "/3.jpg"]
    assert [by_url[u].robots.decision == FORBIDDEN for u in by_url] == [False, True, True, True]
    assert "noai" in by_url["/2.jpg"].robots.detail
    assert by_url["https://cdn.example/full.jpg"].page_url == f"{server.origin}/p3"
    assert server.asked.count("/p2") == server.asked.count("/index.xml") == 1
    assert not {"/secret", "/hidden.xml"} & set(server.asked)


async def test_the_usual_sitemap_a_named_one_and_the_bound_on_pages(ask: Ask) -> None:
    async with serving({}) as server:
        server.answers |= {f"/p{i}": html(f"<img src='/{i}.jpg'>") for i in range(5)}
        server.answers["/sitemap.xml"] = lambda r: r.answer(urlset(server, *(f"/p{i}" for i in range(5))))
        assert len(await ask(f"{server.origin}/about", sitemap="true")) == 5
        assert len(await ask(f"{server.origin}/sitemap.xml", sitemap="true", max_pages="2")) == 2
        assert server.asked.count("/p2") == 1


async def test_what_cannot_be_read_says_why(ask: Ask) -> None:
    async with serving({"/no.xml": html("<html><p>404"), "/robots.txt": lambda r: r.answer(b"User-agent: *\nDisallow: /p")}) as server:
        with pytest.raises(SitemapError, match="no sitemap"):
            await ask(f"{server.origin}/no.xml", sitemap="true")
        with pytest.raises(HttpStatusError, match="404"):
            await ask(server.origin, sitemap="true")
        server.answers["/all.xml"] = lambda r: r.answer(urlset(server, "/p1"))
        with pytest.raises(RobotsForbiddenError):
            await ask(f"{server.origin}/all.xml", sitemap="true")
        with pytest.raises(SourceOptionError, match="expected true or false"):
            await ask(server.origin, sitemap="maybe")


async def test_pages_that_lead_to_each_other_end_and_are_bounded(ask: Ask) -> None:
    async with serving({}) as server:
        server.answers |= {"/a": html("<img src='1.jpg'><a rel='next' href='/b'>"), "/b": html("<img src='2.jpg'><a rel='next' href='/a'>")}
        assert len(await ask(f"{server.origin}/a")) == 2
        server.answers["/calendar"] = lambda r: r.answer(
            f"<img src='{len(server.asked)}.jpg'><a rel='next' href='?{len(server.asked)}'>".encode(), content_type="text/html"
        )
        assert len(await ask(f"{server.origin}/calendar", max_pages="7")) == 7


async def test_x_robots_tag_of_a_page_for_another_robot_does_not_count(ask: Ask) -> None:
    async with serving({"/p": html("<img src='/1.jpg'>", x_robots_tag="otherbot: noai")}) as server:
        (found,) = await ask(f"{server.origin}/p")
    assert found.robots.decision == facts_pb2.ROBOTS_DECISION_ALLOWED
