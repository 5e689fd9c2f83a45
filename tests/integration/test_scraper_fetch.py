"""The fetcher against servers that misbehave in every way that we know of."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from cosmop_scraper.errors import (
    AddressRefusedError,
    FetchError,
    FetchTimeoutError,
    HttpStatusError,
    RobotsForbiddenError,
    TooManyRedirectsError,
    UnsupportedUrlError,
)
from cosmop_scraper.fetch import Fetched, Fetcher
from cosmop_scraper.politeness import Politeness
from cosmop_scraper.robots import OVERRIDDEN
from cosmop_scraper.settings import Settings
from scraper_servers import Request, serving

Make = Callable[..., Fetcher]


@pytest.fixture
async def make() -> AsyncIterator[Make]:
    """Fetchers; a test of impatience says itself how short it is."""
    made: list[Fetcher] = []

    def fetcher(*, respect_robots: bool = True, allow_private: bool = True, rate: float = 1000, **settings: Any) -> Fetcher:
        patience = {"read_timeout": 60, "download_seconds": 120, "fetch_attempts": 1, "contact": "us@example.org"}
        made.append(Fetcher(Settings(**(patience | settings)), Politeness(rate, 8), respect_robots=respect_robots, allow_private=allow_private))
        return made[-1]

    yield fetcher
    for one in made:
        await one.close()


async def fetch(fetcher: Fetcher, url: str, max_bytes: int = 10_000, *, robots: bool = True) -> Fetched:
    return await asyncio.wait_for(fetcher.get(url, max_bytes=max_bytes, robots=robots), 200)


async def test_we_say_who_we_are(make: Make) -> None:
    async with serving({"/": lambda r: r.answer(b"hello")}) as server:
        assert (await fetch(make(), f"{server.origin}/#fragment")).body == b"hello"
        assert server.asked == ["/robots.txt", "/"]
        assert server.seen_headers[-1]["user-agent"] == "cosmop-scraper/0.1 (us@example.org)"
        assert server.seen_headers[-1]["host"] == server.origin.removeprefix("http://")


async def test_a_server_that_says_nothing(make: Make) -> None:
    async def silent(request: Request) -> None:
        await asyncio.sleep(600)

    async with serving({"/": silent}) as server:
        with pytest.raises(FetchTimeoutError):
            await fetch(make(read_timeout=0.3), f"{server.origin}/", robots=False)


async def test_a_server_that_trickles_for_ever(make: Make) -> None:
    async def trickle(request: Request) -> None:
        await request.raw("HTTP/1.1 200 OK\r\ncontent-type: image/jpeg\r\n\r\n")
        while True:
            await request.raw("", b"x")
            await asyncio.sleep(0.05)

    async with serving({"/": trickle}) as server:
        with pytest.raises(FetchTimeoutError, match="did not end within"):
            await fetch(make(fetch_attempts=3, download_seconds=1.0), f"{server.origin}/", robots=False)
        assert server.asked == ["/"]  # tried once: it would trickle again


async def test_an_endless_body_is_cut_off_at_the_cap(make: Make) -> None:
    sent = 0

    async def pour(request: Request) -> None:
        nonlocal sent
        await request.raw("HTTP/1.1 200 OK\r\n\r\n")
        while True:
            await request.raw("", b"x" * 65536)
            sent += 65536

    async with serving({"/": pour}) as server:
        answer = await fetch(make(), f"{server.origin}/", max_bytes=200_000)
    assert answer.cut_off
    assert answer.body == b""
    assert sent < 64 << 20  # what the sockets of a generously tuned machine hold


async def test_a_body_that_announces_too_much_is_not_read(make: Make) -> None:
    async with serving({"/": lambda r: r.raw("HTTP/1.1 200 OK\r\ncontent-length: 99999999999\r\n\r\n")}) as server:
        assert (await fetch(make(), f"{server.origin}/")).cut_off


async def test_a_compressed_body_is_unpacked_up_to_the_cap(make: Make) -> None:
    bomb = gzip.compress(b"\0" * 50_000_000)
    answers = {
        "/small": lambda r: r.answer(gzip.compress(b"hello"), content_encoding="gzip"),
        "/bomb": lambda r: r.answer(bomb, content_encoding="gzip"),
        "/odd": lambda r: r.answer(b"abc", content_encoding="br"),
        "/lie": lambda r: r.answer(b"no gzip at all", content_encoding="gzip"),
    }
    async with serving(answers) as server:
        assert (await fetch(make(), f"{server.origin}/small")).body == b"hello"
        assert (await fetch(make(), f"{server.origin}/bomb", max_bytes=100_000)).cut_off
        for path in ("/odd", "/lie"):
            with pytest.raises(UnsupportedUrlError):
                await fetch(make(), f"{server.origin}{path}")


async def test_a_body_that_ends_early_is_no_body(make: Make) -> None:
    async def short(request: Request) -> None:
        await request.raw("HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n", b"x" * 10)
        request.writer.close()

    async with serving({"/": short}) as server:
        with pytest.raises(FetchError):
            await fetch(make(), f"{server.origin}/")


async def test_redirects_are_followed_so_far(make: Make) -> None:
    def step(number: int) -> Callable[[Request], Any]:
        return lambda r: r.answer(status=302, location=f"/{number + 1}")

    answers: dict[str, Any] = {f"/{i}": step(i) for i in range(9)} | {
        "/9": lambda r: r.answer(b"there"),
        "/loop": lambda r: r.answer(status=301, location="/loop"),
    }
    async with serving(answers) as server:
        answer = await fetch(make(max_redirects=5), f"{server.origin}/4")
        assert (answer.body, answer.url) == (b"there", f"{server.origin}/9")
        for path in ("/3", "/loop"):
            with pytest.raises(TooManyRedirectsError):
                await fetch(make(max_redirects=5), f"{server.origin}{path}")


@pytest.mark.parametrize(
    "target", ["http://169.254.169.254/latest/meta-data/", "http://[::ffff:169.254.169.254]/", "http://0.0.0.0/", "file:///etc/passwd", "gopher://x/"]
)
async def test_redirects_to_where_nobody_should_go_are_refused(make: Make, target: str) -> None:
    async with serving({"/": lambda r: r.answer(status=302, location=target)}) as server:
        with pytest.raises((AddressRefusedError, UnsupportedUrlError)):
            await fetch(make(), f"{server.origin}/")


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]", "2130706433", "0x7f.1", "127.1"])
async def test_this_machine_is_refused_by_whatever_name(make: Make, host: str) -> None:
    async with serving({"/": lambda r: r.answer(b"secret")}) as server:
        port = server.origin.rpartition(":")[2]
        with pytest.raises((AddressRefusedError, UnsupportedUrlError, FetchError)):
            await fetch(make(allow_private=False), f"http://{host}:{port}/")
        assert server.asked == []


async def test_a_storm_of_429_is_waited_out(make: Make) -> None:
    calls = 0

    async def storm(request: Request) -> None:
        nonlocal calls
        calls += 1
        if calls < 3:
            await request.answer(status=429, retry_after="1")
        else:
            await request.answer(b"calm")

    async with serving({"/": storm}) as server:
        assert (await fetch(make(fetch_attempts=4), f"{server.origin}/")).body == b"calm"
        waits = [b - a for a, b in zip(server.times[1:], server.times[2:], strict=False)]
        assert len(waits) == 2
        assert min(waits) >= 0.99


async def test_a_wait_that_is_too_long_is_a_failure(make: Make) -> None:
    async with serving({"/": lambda r: r.answer(status=503, retry_after="86400")}) as server:
        with pytest.raises(HttpStatusError) as caught:
            await fetch(make(fetch_attempts=4), f"{server.origin}/")
    assert caught.value.status == 503
    assert server.asked == ["/robots.txt", "/"]


async def test_what_is_gone_is_not_asked_for_again(make: Make) -> None:
    async with serving({}) as server:
        with pytest.raises(HttpStatusError):
            await fetch(make(fetch_attempts=4), f"{server.origin}/gone.jpg")
        assert server.asked == ["/robots.txt", "/gone.jpg"]


async def test_robots_are_asked_on_every_hop(make: Make) -> None:
    answers = {
        "/robots.txt": lambda r: r.answer(b"User-agent: *\nDisallow: /private/\n"),
        "/open": lambda r: r.answer(status=302, location="/private/1.jpg"),
        "/private/1.jpg": lambda r: r.answer(b"photo"),
    }
    async with serving(answers) as server:
        with pytest.raises(RobotsForbiddenError):
            await fetch(make(), f"{server.origin}/open")
        assert "/private/1.jpg" not in server.asked
        answer = await fetch(make(respect_robots=False), f"{server.origin}/open")
        assert (answer.body, answer.robots.decision) == (b"photo", OVERRIDDEN)


async def test_a_robots_file_that_fails_forbids_and_one_that_redirects_is_followed(make: Make) -> None:
    async with serving({"/robots.txt": lambda r: r.answer(status=500), "/": lambda r: r.answer(b"x")}) as server:
        with pytest.raises(RobotsForbiddenError, match="status 500"):
            await fetch(make(), f"{server.origin}/")
    moved = {
        "/robots.txt": lambda r: r.answer(status=301, location="/r"),
        "/r": lambda r: r.answer(b"User-agent: *\nDisallow: /"),
        "/": lambda r: r.answer(b"x"),
    }
    async with serving(moved) as server:
        with pytest.raises(RobotsForbiddenError) as caught:
            await fetch(make(), f"{server.origin}/")
        assert "robots.txt" in caught.value.rule


async def test_a_crawl_delay_is_kept(make: Make) -> None:
    answers = {"/robots.txt": lambda r: r.answer(b"User-agent: *\nCrawl-delay: 0.3\n"), "/": lambda r: r.answer(b"x")}
    async with serving(answers) as server:
        fetcher, started = make(), asyncio.get_running_loop().time()
        await asyncio.gather(*(fetch(fetcher, f"{server.origin}/") for _ in range(3)))
        # From before the first: a request may reach the server late, and then the next one seems early.
        assert server.times[-1] - started >= 0.57  # less the slack for late timers


async def test_nonsense_instead_of_http(make: Make) -> None:
    async def nonsense(request: Request) -> None:
        await request.raw("I am no web server\r\n\r\n")
        request.writer.close()

    async with serving({"/": nonsense}) as server:
        with pytest.raises(FetchError):
            await fetch(make(), f"{server.origin}/")


@pytest.mark.parametrize("url", ["", "photo.jpg", "//x/y", "ftp://a.example/1.jpg", "data:image/png;base64,AA", "http://", "http://a\x00b/", "http://[::1/"])
async def test_what_is_no_url(make: Make, url: str) -> None:
    with pytest.raises(UnsupportedUrlError):
        await fetch(make(), url)
