"""robots.txt of each kind, X-Robots-Tag and meta tags, obeyed and overridden."""

from __future__ import annotations

import time

import pytest
from cosmop_scraper.errors import FetchError
from cosmop_scraper.robots import ALLOWED, FORBIDDEN, NOT_APPLICABLE, OVERRIDDEN, RobotsTxt, Verdict, judge_tags

RULES = "User-agent: *\nDisallow: /search\nAllow: /search/about\nCrawl-delay: 3\n\nUser-agent: cosmop-scraper\nDisallow: /only-us\n"


def robots(status: int, text: str = "", *, agent: str = "otherbot", respect: bool = True) -> tuple[RobotsTxt, list[str]]:
    asked: list[str] = []

    async def read(url: str) -> tuple[int, str]:
        asked.append(url)
        return status, text

    return RobotsTxt(read, agent, respect=respect), asked


async def test_the_rules_are_read_once_for_an_origin() -> None:
    rules, asked = robots(200, RULES)
    assert (await rules.judge("https://a.example", "https://a.example/search?q=x")).decision == FORBIDDEN
    assert (await rules.judge("https://a.example", "https://a.example/search/about")).decision == ALLOWED
    assert (await rules.judge("https://a.example", "https://a.example/photo.jpg")).decision == ALLOWED
    assert await rules.crawl_delay("https://a.example") == 3
    assert asked == ["https://a.example/robots.txt"]
    await rules.judge("https://a.example:8443", "https://a.example:8443/")
    assert len(asked) == 2


async def test_rules_for_us_by_name_replace_those_for_all() -> None:
    rules, _ = robots(200, RULES, agent="cosmop-scraper")
    assert (await rules.judge("https://a.example", "https://a.example/search")).decision == ALLOWED
    assert (await rules.judge("https://a.example", "https://a.example/only-us/1.jpg")).decision == FORBIDDEN


async def test_the_operator_may_override_and_it_is_said() -> None:
    rules, _ = robots(200, RULES, respect=False)
    verdict = await rules.judge("https://a.example", "https://a.example/search?q=x")
    assert verdict.decision == OVERRIDDEN
    assert "robots.txt of https://a.example" in verdict.detail
    assert await rules.crawl_delay("https://a.example") == 0


@pytest.mark.parametrize(("status", "decision"), [(404, ALLOWED), (403, ALLOWED), (500, FORBIDDEN), (503, FORBIDDEN)])
async def test_a_missing_file_allows_and_a_failing_server_forbids(status: int, decision: int) -> None:
    rules, _ = robots(status)
    assert (await rules.judge("https://a.example", "https://a.example/1.jpg")).decision == decision


@pytest.mark.parametrize(
    ("value", "decision"),
    [
        ("noai", FORBIDDEN),
        ("max-snippet: 5, NoImageAI", FORBIDDEN),
        ("noindex, nofollow", ALLOWED),
        ("otherbot: noai", ALLOWED),
        ("cosmop-scraper: noai", FORBIDDEN),
        ("unavailable_after: 25 Jun 2026 15:00:00 PST", ALLOWED),
        ("", ALLOWED),
    ],
)
def test_tags_forbid_use_by_their_words(value: str, decision: int) -> None:
    assert judge_tags([value], "cosmop-scraper/0.1 (a@b.example)", "X-Robots-Tag", respect=True).decision == decision


def test_the_stricter_of_two_verdicts_counts() -> None:
    order = [Verdict(NOT_APPLICABLE), Verdict(ALLOWED), Verdict(OVERRIDDEN, "a"), Verdict(FORBIDDEN, "b")]
    for i, looser in enumerate(order):
        for stricter in order[i:]:
            assert looser.stricter(stricter) == stricter
            assert stricter.stricter(looser) == stricter


async def test_too_many_requests_forbids_and_is_asked_again_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    rules, asked = robots(429)
    assert (await rules.judge("https://a.example", "https://a.example/1.jpg")).decision == FORBIDDEN
    clock = time.monotonic() + 61
    monkeypatch.setattr("cosmop_scraper.robots.time.monotonic", lambda: clock)
    await rules.judge("https://a.example", "https://a.example/1.jpg")
    assert len(asked) == 2


async def test_yesterdays_rules_hold_while_the_host_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    away = False

    async def read(url: str) -> tuple[int, str]:
        if away:
            raise FetchError("away")
        return 200, "User-agent: *\nDisallow: /private\nSitemap: https://a.example/s.xml"

    rules = RobotsTxt(read, "cosmop-scraper", respect=True)
    assert await rules.sitemaps("https://a.example") == ["https://a.example/s.xml"]
    away = True
    clock = time.monotonic() + 25 * 3600
    monkeypatch.setattr("cosmop_scraper.robots.time.monotonic", lambda: clock)
    assert (await rules.judge("https://a.example", "https://a.example/private/1.jpg")).decision == FORBIDDEN
    with pytest.raises(FetchError):
        await rules.judge("https://new.example", "https://new.example/1.jpg")


async def test_weeks_of_new_origins_do_not_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cosmop_scraper.robots._MOST_ORIGINS", 10)
    rules, asked = robots(404)
    for i in range(50):
        await rules.judge(f"https://{i}.example", f"https://{i}.example/1.jpg")
    await rules.judge("https://49.example", "https://49.example/2.jpg")
    assert len(asked) == 50
    assert len(rules._rules) == 10
    assert not rules._locks
