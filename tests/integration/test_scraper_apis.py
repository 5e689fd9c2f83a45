"""The sources that are APIs, against local stand-ins that answer as the documentation says."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from cosmop_common.collection import ScrapeSettings
from cosmop_scraper.api import ApiAnswerError
from cosmop_scraper.bookmark import Bookmark
from cosmop_scraper.candidate import Candidate, SourceContext
from cosmop_scraper.errors import FetchError, FetchTimeoutError, RateLimitedError
from cosmop_scraper.fetch import Fetcher
from cosmop_scraper.politeness import Politeness
from cosmop_scraper.settings import Settings
from cosmop_scraper.sources import SOURCES
from cosmop_scraper.sources import wikimedia as wikimedia_source
from cosmop_scraper.sources.x import AccessDeniedError, BadQueryError, PaymentRequiredError, SpendingCapError
from scraper_servers import Request, serving

RECORDED = Path(__file__).resolve().parents[3] / "shared" / "fixtures" / "wikimedia_commons"
SECRET = "AAAAkeyAAAA"

Ask = Callable[..., Any]


@pytest.fixture
async def ask() -> AsyncIterator[Ask]:
    """Asks a source one query; keeps what it remembers in ``ask.memory``."""
    fetchers: list[Fetcher] = []
    memory: dict[str, str] = {}

    async def keep(name: str, data: bytes, media_type: str) -> str:
        return name

    async def run(name: str, query: str, base: str, settings: Settings | None = None, **options: str) -> list[Candidate]:
        settings = settings or Settings(fetch_attempts=1)
        fetchers.append(Fetcher(settings, Politeness(1000, 4), respect_robots=True, allow_private=True))
        settings = settings.model_copy(update={"x_api": base, "openverse_api": base})
        options = {"base_url": base} | options if name == "wikimedia" else options
        found: list[Candidate] = []
        limit = run.limit  # type: ignore[attr-defined]
        context = SourceContext(settings, ScrapeSettings(), options, fetchers[-1], keep, limit, memory, memory.__setitem__, lambda _query: len(found))
        source = SOURCES[name](context)
        try:
            async for candidate in source.find(query):
                found.append(candidate)
        finally:
            await source.close()
        return found

    run.limit = 0  # type: ignore[attr-defined]
    run.memory = memory  # type: ignore[attr-defined]
    yield run
    for fetcher in fetchers:
        await fetcher.close()


def commons_page(number: int, **more: Any) -> dict[str, Any]:
    return {"pageid": number, "index": number, "title": f"File:Photo {number}.jpg", **more}


def commons_info(number: int) -> dict[str, Any]:
    metadata = {
        "Artist": {"value": '<a href="//commons.wikimedia.org/wiki/User:Ann">Ann &amp; Bob</a>'},
        "LicenseShortName": {"value": "CC BY-SA 4.0"},
        "LicenseUrl": {"value": "https://creativecommons.org/licenses/by-sa/4.0"},
        "ObjectName": {"value": f"Photo {number}"},
    }
    return {"url": f"https://upload.example/{number}.jpg", "descriptionurl": f"https://commons.example/{number}", "user": "A", "extmetadata": metadata}


async def test_wikimedia_merges_the_answers_of_a_batch_and_follows_its_pages(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = [
        {"error": {"code": "maxlag", "info": "Waiting for a database"}},
        {"continue": {"continue": "||", "iicontinue": "x"}, "query": {"pages": {"2": commons_page(2), "1": commons_page(1, imageinfo=[commons_info(1)])}}},
        {"batchcomplete": "", "continue": {"continue": "gsroffset||", "gsroffset": 2}, "query": {"pages": {"2": commons_page(2, imageinfo=[commons_info(2)])}}},
        {"batchcomplete": "", "query": {"pages": {"3": commons_page(3)}}},
    ]

    async def answer(request: Request) -> None:
        await request.json(answers.pop(0))

    monkeypatch.setattr(wikimedia_source, "_LAG_SECONDS", 0.01)
    async with serving({"/w/api.php": answer}) as server:
        found = await ask("wikimedia", "ukraine refugees", f"{server.origin}/w/api.php")
    assert [c.image_url for c in found] == ["https://upload.example/1.jpg", "https://upload.example/2.jpg"]
    first = found[0]
    assert (first.title, first.author, first.page_url) == ("Photo 1", "Ann & Bob", "https://commons.example/1")
    assert first.licence == "CC BY-SA 4.0 https://creativecommons.org/licenses/by-sa/4.0"
    assert "gsrsearch=filetype%3Abitmap+ukraine+refugees" in server.asked[0]
    assert "gsroffset=2" in server.asked[3]
    assert "/robots.txt" not in server.asked


async def test_wikimedia_reads_recorded_answers(ask: Ask) -> None:
    if not RECORDED.is_dir():
        pytest.skip(f"no recorded answers at {RECORDED}")
    expected = {
        "image_info_artist_div.json": "Jona Lendering",
        "image_info_artist_link.json": "link text",
        "image_info_artist_partial_link.json": "Jeff & Brian from Eastbourne",
        "image_info_artist_string.json": "Artist Name",
    }
    for name, author in expected.items():
        info = json.loads((RECORDED / name).read_text()) | {"url": "https://upload.example/1.jpg"}
        found = wikimedia_source.candidate({"imageinfo": [info]}, "q")
        assert found is not None
        assert found.author == author
    example = wikimedia_source.candidate(json.loads((RECORDED / "image_data_example.json").read_text()), "q")
    assert example is not None
    assert (example.author, example.licence) == ("PtrQs", "CC BY-SA 4.0 https://creativecommons.org/licenses/by-sa/4.0")
    assert wikimedia_source.candidate(json.loads((RECORDED / "image_data_missing_imageinfo.json").read_text()), "q") is None
    assert wikimedia_source.candidate(json.loads((RECORDED / "image_data_missing_image_url.json").read_text()), "q") is None
    batch = [json.loads((RECORDED / "continuation" / f"wmc_pretty{i}.json").read_text()) for i in (1, 2, 3)]
    pages: dict[str, dict[str, Any]] = {}
    for part in batch:
        wikimedia_source.merge_pages(pages, part)
    assert all(wikimedia_source.candidate(page, "q") for page in pages.values() if "imageinfo" in page)
    assert len(pages) == len(batch[0]["query"]["pages"])


@pytest.mark.parametrize(
    ("names", "images"),
    [
        (["response_large_0.json", "response_large_1.json"], 3),
        (["response_small_with_continue.json", "response_small_with_continue_2.json", "response_small_no_continue.json"], 0),
        (["response_small_missing_continue.json"], 0),
    ],
)
async def test_wikimedia_follows_recorded_answers_to_their_end(ask: Ask, names: list[str], images: int) -> None:
    if not RECORDED.is_dir():
        pytest.skip(f"no recorded answers at {RECORDED}")
    answers = [json.loads((RECORDED / name).read_text()) for name in names]

    async def answer(request: Request) -> None:
        await request.json(answers[len(server.asked) - 1])

    async with serving({"/w/api.php": answer}) as server:
        found = await ask("wikimedia", "x", f"{server.origin}/w/api.php")
        assert len(server.asked) == len(names)
    assert len(found) == images
    assert all(c.image_url and "creativecommons.org" in c.licence and c.author and c.page_url for c in found)


async def test_an_api_that_answers_nonsense_is_an_error_that_says_so(ask: Ask) -> None:
    async with serving(
        {"/a": lambda r: r.answer(b"<html>"), "/b": lambda r: r.json([1]), "/c": lambda r: r.json({"error": {"code": "x", "info": "no such thing"}})}
    ) as server:
        for path, words in (("/a", "no JSON"), ("/b", "a JSON list"), ("/c", "no such thing")):
            with pytest.raises(ApiAnswerError, match=words):
                await ask("wikimedia", "x", f"{server.origin}{path}")


def openverse_result(number: int) -> dict[str, Any]:
    return {
        "id": str(number), "title": f"Photo {number}", "url": f"https://live.example/{number}.jpg", "creator": "Ann", "license": "by", "license_version": "2.0",
        "license_url": "https://creativecommons.org/licenses/by/2.0/", "foreign_landing_url": f"https://flickr.example/{number}", "thumbnail": "https://api.example/thumb",
    }  # fmt: skip


async def test_openverse_reads_pages_as_far_as_it_may(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cosmop_scraper.sources.openverse._ANONYMOUS_INTERVAL", 0.3)

    async def answer(request: Request) -> None:
        page = int(request.path.rpartition("&page=")[2])
        if page > 2:
            await request.json({"detail": "log in to see more"}, status=401)
        else:
            await request.json({"page_count": 9, "page": page, "results": [openverse_result(page), {"id": "x", "url": None}]})

    async with serving({"/v1/images/": answer}) as server:
        started = asyncio.get_running_loop().time()
        found = await ask("openverse", "border", f"{server.origin}/v1/images/", license="cc0,by")
        assert len(server.times) == 3
        assert server.times[2] - started >= 0.57  # twenty a minute, here three a second, less the slack for late timers
        monkeypatch.setattr("cosmop_scraper.sources.openverse._KEYED_INTERVAL", 0.01)
        ask.memory.clear()
        keyed = await ask("openverse", "border", f"{server.origin}/v1/images/", Settings(openverse_token=SECRET))
        assert server.seen_headers[-1]["authorization"] == f"Bearer {SECRET}"
    assert [c.image_url for c in found] == [c.image_url for c in keyed] == ["https://live.example/1.jpg", "https://live.example/2.jpg"]
    assert (found[0].licence, found[0].author, found[0].page_url) == ("by 2.0 https://creativecommons.org/licenses/by/2.0/", "Ann", "https://flickr.example/1")
    assert "license=cc0%2Cby" in server.asked[0]
    assert "authorization" not in server.seen_headers[0]


async def test_openverse_goes_on_at_its_page_and_says_when_the_day_is_over(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cosmop_scraper.sources.openverse._ANONYMOUS_INTERVAL", 0.01)
    day_is_over = True

    async def answer(request: Request) -> None:
        page = int(request.path.rpartition("&page=")[2])
        if page == 3 and day_is_over:
            await request.json({"detail": "throttled"}, status=429, retry_after="40000")
        else:
            await request.json({"page_count": 3, "page": page, "results": [openverse_result(page)]})

    async with serving({"/v1/images/": answer}) as server:
        with pytest.raises(RateLimitedError, match="200 requests a day; COSMOP_OPENVERSE_TOKEN"):
            await ask("openverse", "border", f"{server.origin}/v1/images/")
        day_is_over = False
        found = await ask("openverse", "border", f"{server.origin}/v1/images/")
        assert [path.rpartition("&page=")[2] for path in server.asked] == ["1", "2", "3", "2", "3"]
    assert [c.image_url for c in found] == ["https://live.example/2.jpg", "https://live.example/3.jpg"]


async def test_wikimedia_goes_on_at_its_batch_and_sees_pages_that_do_not_end(ask: Ask) -> None:
    batch = {"batchcomplete": "", "query": {"pages": {"1": commons_page(1, imageinfo=[commons_info(1)])}}}

    def continued(offset: int) -> dict[str, Any]:
        return batch | {"continue": {"continue": "gsroffset||", "gsroffset": offset}}

    answers = [continued(50), continued(100), {"error": {"code": "x", "info": "busy"}}, continued(100)]

    async def answer(request: Request) -> None:
        await request.json(answers.pop(0))

    async with serving({"/w/api.php": answer}) as server:
        with pytest.raises(ApiAnswerError, match="busy"):
            await ask("wikimedia", "border", f"{server.origin}/w/api.php")
        with pytest.raises(ApiAnswerError, match="its pages do not end"):
            await ask("wikimedia", "border", f"{server.origin}/w/api.php")
        assert ["gsroffset=100" in path for path in server.asked] == [False, False, True, True]


SEARCH = "/2/tweets/search/recent"


def posts(first: int, count: int, following: str | None = None) -> dict[str, Any]:
    """A page as the API writes it; each post has two photos, and the first post a video as well."""
    numbers = range(first, first + count)
    media = [
        {"media_key": f"3_{n}{i}", "type": "photo", "url": f"https://pbs.example/media/{n}{i}.jpg", "width": 1200, "height": 800, "alt_text": f"text {n}"}
        for n in numbers
        for i in (0, 1)
    ]
    data = [
        {"id": str(n), "text": "t", "edit_history_tweet_ids": [str(n)], "author_id": "7", "attachments": {"media_keys": [f"3_{n}0", f"3_{n}1"]}}
        for n in numbers
    ]
    data[0]["attachments"]["media_keys"].append("7_video")
    media.append({"media_key": "7_video", "type": "video"})
    meta = {"result_count": count, "newest_id": str(first + count), "oldest_id": str(first)} | ({"next_token": following} if following else {})
    return {"data": data, "includes": {"media": media, "users": [{"id": "7", "username": "ann", "name": "Ann"}]}, "meta": meta}


def x_settings(dollars: float = 100, **more: Any) -> Settings:
    return Settings(x_bearer_token=SECRET, x_max_dollars=dollars, **more)


async def test_x_takes_all_photos_of_all_posts_page_by_page(ask: Ask, caplog: pytest.LogCaptureFixture) -> None:
    async def answer(request: Request) -> None:
        await request.json(posts(50, 2) if "next_token=t2" in request.path else posts(10, 3, "t2"))

    caplog.set_level(logging.DEBUG)
    async with serving({SEARCH: answer}) as server:
        found = await ask("x", "refugees", server.origin, x_settings(), since_id="5")
        assert len(server.asked) == 2
        assert "since_id=5" in server.asked[0]
        assert "has%3Aimages" in server.asked[0]
    assert len(found) == 10
    assert found[0].image_url == "https://pbs.example/media/100.jpg?name=orig"
    assert (found[0].page_url, found[0].author, found[0].title) == ("https://x.com/ann/status/10", "ann", "text 10")
    assert ask.memory["newest_id"] == "13"
    assert float(ask.memory["dollars"]) == pytest.approx(0.005 * (5 + 10 + 2))
    assert SECRET not in caplog.text


async def test_x_never_asks_for_a_page_that_could_pass_the_cap(ask: Ask) -> None:
    async def answer(request: Request) -> None:
        await request.json(posts(10, 10, "more"))

    async with serving({SEARCH: answer}) as server:
        with pytest.raises(SpendingCapError, match="COSMOP_X_MAX_DOLLARS"):
            await ask("x", "refugees", server.origin, x_settings(0.5))
        sizes = [int(path.partition("max_results=")[2].partition("&")[0]) for path in server.asked]
        assert sizes == [20, 13]  # 0.50 $, then what 0.155 $ of photos and posts have left of it
    assert "no key" in SOURCES["x"].unavailable(Settings())
    assert "COSMOP_X_MAX_DOLLARS" in SOURCES["x"].unavailable(x_settings(0.1))
    assert not SOURCES["x"].unavailable(x_settings())


@pytest.mark.parametrize(
    ("status", "error"),
    [(402, PaymentRequiredError), (403, AccessDeniedError), (401, AccessDeniedError), (400, BadQueryError), (429, RateLimitedError), (503, FetchError)],
)
async def test_x_refusals_are_typed(ask: Ask, status: int, error: type[Exception]) -> None:
    async with serving({SEARCH: lambda r: r.json({"title": "no", "detail": "because"}, status=status)}) as server:
        with pytest.raises(error) as caught:
            await ask("x", "refugees", server.origin, x_settings())
        assert len(server.asked) == 1
    assert SECRET not in str(caught.value)


async def test_x_goes_on_at_its_page_and_pays_for_none_twice(ask: Ask) -> None:
    answers = {"": posts(10, 10, "t2"), "t2": posts(30, 10, "t3"), "t3": None, "again": posts(50, 3)}

    async def answer(request: Request) -> None:
        token = request.path.partition("next_token=")[2].partition("&")[0]
        page = answers[token]
        await (request.json(page) if page else request.json({"title": "no"}, status=503))

    async with serving({SEARCH: answer}) as server:
        with pytest.raises(FetchError):
            await ask("x", "refugees", server.origin, x_settings())
        spent = float(ask.memory["dollars"])
        assert spent == pytest.approx(0.005 * (20 + 40 + 2))
        answers["t3"] = posts(50, 3)
        asked = len(server.asked)
        found = await ask("x", "refugees", server.origin, x_settings())
        assert ["next_token=t2" in path for path in server.asked[asked:]] == [True, False]  # not from the beginning
        assert len(found) == 26


async def test_x_whose_page_is_gone_begins_anew(ask: Ask) -> None:
    async def answer(request: Request) -> None:
        await (request.json({"title": "Invalid", "detail": "gone"}, status=400) if "next_token" in request.path else request.json(posts(10, 2)))

    async with serving({SEARCH: answer}) as server:
        ask.memory[Bookmark(SourceContext(Settings(), ScrapeSettings(), {}, None, None), "refugees")._key] = "old"  # type: ignore[arg-type]
        assert len(await ask("x", "refugees", server.origin, x_settings())) == 4
        assert len(server.asked) == 2


async def test_x_says_what_it_may_cost_before_it_asks(ask: Ask) -> None:
    async with serving({SEARCH: lambda r: r.json({}, status=402)}) as server:
        with pytest.raises(PaymentRequiredError):
            await ask("x", "refugees", server.origin, x_settings(20))
        assert ask.memory["estimate"] == "at most $20.00, 2,000 posts of one photo"
        assert float(ask.memory["dollars"]) == 0  # nothing came, nothing is paid
        ask.limit = 500
        with pytest.raises(PaymentRequiredError):
            await ask("x", "refugees", server.origin, x_settings(20))
        assert ask.memory["estimate"] == "about $5.00 for 500 photos of as many posts, at most $20.00"
        ask.limit = 20
        with pytest.raises(PaymentRequiredError):
            await ask("x", "refugees", server.origin, x_settings(20))
        assert "max_results=20&" in f"{server.asked[-1]}&"  # no more is paid for than is wanted


async def test_x_that_does_not_answer_is_given_up(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cosmop_scraper.sources.x._TIMEOUT_SECONDS", 0.3)

    async def answer(request: Request) -> None:
        await asyncio.sleep(600)

    async with serving({SEARCH: answer}) as server:
        with pytest.raises(FetchTimeoutError, match="does not answer"):
            await ask("x", "refugees", server.origin, x_settings())


async def test_the_newest_post_of_several_queries_is_the_one_that_misses_none(ask: Ask) -> None:
    async with serving({SEARCH: lambda r: r.json(posts(900, 2) if "query=b" in r.path else posts(100, 2))}) as server:
        await ask("x", "b", server.origin, x_settings())
        await ask("x", "a", server.origin, x_settings())
    assert ask.memory["newest_id"] == "102"


async def test_x_waits_for_its_window_where_that_is_short(ask: Ask) -> None:
    calls = 0

    async def answer(request: Request) -> None:
        nonlocal calls
        calls += 1
        if calls == 1:
            await request.json({}, status=429, x_rate_limit_reset=str(int(time.time())))
        else:
            await request.json(posts(10, 1))

    async with serving({SEARCH: answer}) as server:
        assert len(await ask("x", "refugees", server.origin, x_settings())) == 2


async def test_x_refuses_a_query_that_is_too_long(ask: Ask) -> None:
    with pytest.raises(BadQueryError, match="512"):
        await ask("x", "a" * 500, "http://127.0.0.1:1", x_settings())
