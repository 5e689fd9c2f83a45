"""The small parts: pace, budget, counts, queries, plans, verification, lists of URLs."""

from __future__ import annotations

import asyncio
import io
import time
import zipfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from cosmop_common.collection import ScrapeSettings
from cosmop_common.pb.cosmop.v1 import facts_pb2, runs_pb2
from cosmop_scraper import sources
from cosmop_scraper.budget import Budget
from cosmop_scraper.candidate import SourceContext
from cosmop_scraper.errors import FetchError, FetchTimeoutError, HostDownError, HttpStatusError, SourceOptionError, SourceUnavailableError, UnknownSourceError
from cosmop_scraper.fetch import Fetcher
from cosmop_scraper.options import NoQueriesError, plan
from cosmop_scraper.politeness import Politeness
from cosmop_scraper.pressure import Memory
from cosmop_scraper.queries import Queries
from cosmop_scraper.settings import Settings
from cosmop_scraper.sources.folder import FolderError
from cosmop_scraper.sources.urls import UrlListError
from cosmop_scraper.tally import OTHER, Tally
from cosmop_scraper.verify import verify
from PIL import Image
from skipping_loop import run_skipping


async def ask(politeness: Politeness, host: str, times: int, hold: float = 0.0) -> tuple[list[float], int]:
    """When each of so many requests to a host left, and how many were in flight at most."""
    left: list[float] = []
    flying = most = 0

    async def one() -> None:
        nonlocal flying, most
        async with politeness.slot(host):
            left.append(asyncio.get_running_loop().time())
            flying += 1
            most = max(most, flying)
            await asyncio.sleep(hold)
            flying -= 1

    await asyncio.gather(*(one() for _ in range(times)))
    return left, most


def test_requests_to_one_host_are_spread_evenly(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        left, _ = await ask(Politeness(50, 8), "a", 26)
        assert [at - left[0] for at in left] == pytest.approx([0.0, *(0.02 * i for i in range(25))])  # the second within the slack for late timers

    run_skipping(monkeypatch, main(), "cosmop_scraper.politeness")


def test_hosts_do_not_wait_for_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        politeness = Politeness(5, 8)
        asked = await asyncio.gather(*(ask(politeness, f"host-{i}", 1) for i in range(20)))
        assert len({left[0] for left, _ in asked}) == 1

    run_skipping(monkeypatch, main(), "cosmop_scraper.politeness")


def test_connections_to_one_host_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        _, most = await ask(Politeness(1000, 3), "a", 12, hold=0.02)
        assert most == 3

    run_skipping(monkeypatch, main(), "cosmop_scraper.politeness")


def test_a_complaint_holds_back_everybody_and_slows_down(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        politeness = Politeness(100, 8)
        assert politeness.complain("a", 0.3) == 0.3
        started = asyncio.get_running_loop().time()
        left, _ = await ask(politeness, "a", 3)
        assert [at - started for at in left] == pytest.approx([0.3, 0.32, 0.34])  # 20 ms apart now, not 10
        assert politeness.complain("b", None) < politeness.complain("b", None)

    run_skipping(monkeypatch, main(), "cosmop_scraper.politeness")


async def refuse(politeness: Politeness, host: str, error: FetchError) -> None:
    async with politeness.slot(host):
        raise error


async def test_a_host_that_answers_nobody_is_left_alone_and_then_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    politeness = Politeness(10_000, 8)
    for _ in range(6):
        with pytest.raises(FetchTimeoutError):
            await refuse(politeness, "dead", FetchTimeoutError("no answer"))
        with pytest.raises(HttpStatusError):
            await refuse(politeness, "ill", HttpStatusError("u", 500))  # it answers, however badly
    with pytest.raises(HostDownError, match="6 requests in a row"):
        await refuse(politeness, "dead", FetchError("never sent"))
    async with politeness.slot("ill"), politeness.slot("living"):
        pass
    later = time.monotonic() + 61
    with monkeypatch.context() as clock:
        clock.setattr("cosmop_scraper.politeness.time.monotonic", lambda: later)
        async with politeness.slot("dead"):
            pass
    assert politeness._hosts["dead"].down_until == 0  # it answered: it lives


async def test_a_host_that_asks_for_more_patience_than_there_is_holds_nobody_up() -> None:
    politeness = Politeness(1000, 8, patience=5)
    waiting = asyncio.create_task(ask(politeness, "a", 1))
    await waiting
    politeness.complain("a", 3600)
    with pytest.raises(HostDownError, match="COSMOP_MAX_RETRY_AFTER"):
        await refuse(politeness, "a", FetchError("never sent"))


async def test_weeks_of_new_hosts_do_not_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cosmop_scraper.politeness._MOST_HOSTS", 50)
    monkeypatch.setattr("cosmop_scraper.politeness._IDLE_SECONDS", 0.0)
    politeness = Politeness(1000, 8)
    politeness.complain("remembered", 60)
    for i in range(200):
        await ask(politeness, f"host-{i}", 1)
    assert len(politeness._hosts) <= 51
    assert "remembered" in politeness._hosts


def test_a_crawl_delay_only_slows_down(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        politeness = Politeness(10, 8)
        politeness.crawl_delay("a", 0.01)
        politeness.crawl_delay("b", 0.2)
        (a, _), (b, _) = await asyncio.gather(ask(politeness, "a", 2), ask(politeness, "b", 2))
        assert (a[1] - a[0], b[1] - b[0]) == pytest.approx((0.08, 0.18))  # less the slack for late timers

    run_skipping(monkeypatch, main(), "cosmop_scraper.politeness")


async def test_a_budget_waits_for_those_in_flight_before_it_is_spent() -> None:
    budget = Budget(images=2, size=0, seconds=0)
    assert await budget.admit()
    assert await budget.admit()
    third = asyncio.create_task(budget.admit())
    await asyncio.sleep(0.01)
    assert not third.done()
    await budget.settle(new=False, size=10)  # a refused one makes room
    assert await third
    await budget.settle(new=True, size=10)
    await budget.settle(new=True, size=10)
    assert not await budget.admit()
    assert budget.spent == "2 images reached"


async def test_budgets_of_bytes_and_seconds() -> None:
    budget = Budget(images=0, size=100, seconds=0, fetched=90)
    assert await budget.admit()
    await budget.settle(new=True, size=10)
    assert not await budget.admit()
    late = Budget(images=0, size=0, seconds=0.01)
    await asyncio.sleep(0.02)
    assert late.spent == "time budget reached"
    assert not Budget(images=0, size=0, seconds=0).spent


async def test_memory_is_a_gate() -> None:
    memory = Memory(100)
    with memory.share(150):
        waiting = asyncio.create_task(memory.wait())
        await asyncio.sleep(0.01)
        assert not waiting.done()
    await asyncio.wait_for(waiting, 60)
    assert memory.held == 0


def test_bodies_that_grow_wait_for_room_but_never_all_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        memory, most, whole = Memory(100), 0, 0

        async def body() -> None:
            nonlocal most, whole
            async with asyncio.timeout(0.2) as clock:  # stands still while a body waits
                with memory.share() as share:
                    for _ in range(6):
                        await share.grow(10, clock)
                        most = max(most, memory.held)
                        await asyncio.sleep(0.005)
                    whole += 1

        await asyncio.wait_for(asyncio.gather(*(body() for _ in range(40))), 10)
        assert whole == 40
        assert 100 < most <= 160  # the bound and one body
        assert memory.held == 0

    run_skipping(monkeypatch, main())


async def test_a_body_that_is_given_up_gives_back_its_room() -> None:
    memory = Memory(100)
    with memory.share(100):
        async with asyncio.timeout(None) as clock:
            with memory.share() as favoured:
                await favoured.grow(1, clock)
                task = asyncio.create_task(grown(memory))
                await asyncio.sleep(0.01)
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
    assert memory.held == 0
    await asyncio.wait_for(grown(memory), 60)


async def grown(memory: Memory) -> None:
    async with asyncio.timeout(60) as clock:
        with memory.share() as share:
            await share.grow(50, clock)


def test_counts_are_of_all_and_of_each_host() -> None:
    tally = Tally({"new": 3, "found": 9, "a|new": 3, "a|found": 9})
    tally.add("a", new=1, found=1)
    for i in range(40):
        tally.add(f"host-{i}", found=1)
    counts = tally.snapshot()
    assert counts["new"] == counts["a|new"] == 4
    assert counts["a|found"] == 1  # found again, not twice
    assert counts[f"{OTHER}|found"] == 11
    assert counts["found"] == 41


def test_a_query_is_done_when_its_source_and_its_downloads_are() -> None:
    kept: dict[str, str] = {}
    queries = Queries({}, kept.__setitem__)
    first, second, third = (queries.begin("border") for _ in range(3))
    queries.settle("border", second)
    assert queries.ended("border") == 0  # the first is still on its way
    queries.settle("border", first)
    assert queries.ended("border") == 2
    queries.exhaust("border")
    assert not kept
    queries.settle("border", third)
    assert list(kept.values()) == ["border"]
    again = Queries(kept, kept.__setitem__)
    assert again.done("border")
    assert again.any_done
    assert not again.done("refugees")


def test_a_plan_fills_in_the_collection() -> None:
    scrape = ScrapeSettings(source="folder", keywords=("/a", "/b", "/a"), max_images=5)
    made = plan(runs_pb2.ScrapeJob(), scrape, Settings())
    assert (made.source.name, made.queries, made.images) == ("folder", ("/a", "/b"), 5)
    mine = plan(runs_pb2.ScrapeJob(source="urls", queries=["x"], max_images=2, options={"url_column": "u"}), scrape, Settings())
    assert (mine.source.name, mine.queries, mine.images, dict(mine.options)) == ("urls", ("x",), 2, {"url_column": "u"})


@pytest.mark.parametrize(
    ("job", "error", "words"),
    [
        ({"source": "gogle", "queries": ["x"]}, UnknownSourceError, "gogle.*google"),
        ({"source": "web", "queries": ["x"], "options": {"pages": "3"}}, SourceOptionError, "pages.*max_pages"),
        ({"source": "google", "queries": ["x"]}, SourceUnavailableError, "COSMOP_CHROME_BINARY"),
        ({"source": "web"}, NoQueriesError, "keywords"),
    ],
)
def test_a_job_that_cannot_be_run_says_why(job: dict[str, object], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        plan(runs_pb2.ScrapeJob(**job), ScrapeSettings(), Settings(chrome_binary="/nowhere/chrome"))


def picture(width: int, height: int, kind: str = "PNG") -> bytes:
    sink = io.BytesIO()
    Image.new("RGB", (width, height), (200, 30, 30)).save(sink, kind)
    return sink.getvalue()


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (picture(100, 80), None),
        (picture(100, 80)[:-30], facts_pb2.REFUSAL_REASON_CORRUPT),
        (picture(63, 200), facts_pb2.REFUSAL_REASON_TOO_SMALL),
        (picture(801, 100), facts_pb2.REFUSAL_REASON_ASPECT),
        (picture(800, 100), None),
        (picture(1001, 1000), facts_pb2.REFUSAL_REASON_TOO_MANY_PIXELS),
        (picture(100, 80, "BMP"), facts_pb2.REFUSAL_REASON_FORMAT),
        (b"<html><body>404</body></html>", facts_pb2.REFUSAL_REASON_NOT_AN_IMAGE),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", facts_pb2.REFUSAL_REASON_NOT_AN_IMAGE),
        (b"", facts_pb2.REFUSAL_REASON_NOT_AN_IMAGE),
    ],
)
def test_what_is_taken_for_an_image(data: bytes, reason: int | None) -> None:
    finding = verify(data, ScrapeSettings(formats=("png", "jpeg"), max_pixels=1_000_000))
    assert (finding.refusal.reason if finding.refusal else None) == reason


def context(tmp_path: Path, **options: str) -> SourceContext:
    async def keep(name: str, data: bytes, media_type: str) -> str:
        return name

    settings = Settings(folder_root=tmp_path)
    scrape = ScrapeSettings()
    return SourceContext(settings, scrape, options, Fetcher(settings, Politeness(1, 1), respect_robots=True, allow_private=False), keep)


async def found(source: sources.Source, query: object) -> list[tuple[str, str, str]]:
    return [(c.image_url, c.page_url, c.author) async for c in source.find(str(query))]


async def test_lists_of_urls(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("# mine\nhttp://a.example/1.jpg\n\nhttp://a.example/2.jpg\n")
    (tmp_path / "list.csv").write_text("url,page_url,who\nhttp://a.example/1.jpg,http://a.example/,Ann\n,,\n")
    pq.write_table(pa.table({"link": ["http://a.example/1.jpg", None], "author": ["Ann", None]}), tmp_path / "list.parquet")
    plain = sources.SOURCES["urls"](context(tmp_path))
    assert [u for u, _, _ in await found(plain, tmp_path / "list.txt")] == ["http://a.example/1.jpg", "http://a.example/2.jpg"]
    assert await found(plain, "http://a.example/3.jpg") == [("http://a.example/3.jpg", "", "")]
    named = sources.SOURCES["urls"](context(tmp_path, author_column="who"))
    assert await found(named, tmp_path / "list.csv") == [("http://a.example/1.jpg", "http://a.example/", "Ann")]
    other = sources.SOURCES["urls"](context(tmp_path, url_column="link"))
    assert await found(other, tmp_path / "list.parquet") == [("http://a.example/1.jpg", "", "Ann")]
    with pytest.raises(UrlListError, match=r"list\.csv has no column 'link' but url, page_url, who"):
        await found(other, tmp_path / "list.csv")
    pq.write_table(pa.table({"URL": ["http://a.example/1.jpg"], "License": ["CC0"], "TEXT": ["t"]}), tmp_path / "usual.parquet")
    (usual,) = [c async for c in plain.find(str(tmp_path / "usual.parquet"))]
    assert (usual.image_url, usual.licence, usual.title) == ("http://a.example/1.jpg", "CC0", "t")
    (tmp_path / "broken.parquet").write_bytes((tmp_path / "usual.parquet").read_bytes()[:-40] + b"x" * 40)
    with pytest.raises(UrlListError, match=r"broken\.parquet"):
        await found(plain, tmp_path / "broken.parquet")
    with pytest.raises(UrlListError, match=r"none\.txt"):
        await found(plain, tmp_path / "none.txt")
    with pytest.raises(FolderError, match="COSMOP_FOLDER_ROOT"):
        await found(plain, "/etc/passwd")


async def test_no_url_of_a_long_list_is_lost(tmp_path: Path) -> None:
    urls = [f"http://a.example/{i}.jpg" for i in range(2500)]
    (tmp_path / "long.txt").write_text("\n".join(urls))
    (tmp_path / "gaps.csv").write_text("url\n" + '""\n' * 1500 + "\n".join(urls))
    source = sources.SOURCES["urls"](context(tmp_path))
    assert [u for u, _, _ in await found(source, tmp_path / "long.txt")] == urls
    assert [u for u, _, _ in await found(source, tmp_path / "gaps.csv")] == urls


async def test_the_folder_source_stays_inside_its_root(tmp_path: Path) -> None:
    folder = sources.SOURCES["folder"](context(tmp_path))
    for outside in ("/etc", tmp_path / ".." / "elsewhere"):
        with pytest.raises(FolderError, match="COSMOP_FOLDER_ROOT"):
            await found(folder, outside)


@pytest.mark.parametrize("payload", [b"<?php system($_GET['c']); ?>", b"<script>alert(1)</script>", b"Rar!\x1a\x07\x00"])
def test_an_image_that_is_something_else_as_well_is_refused(payload: bytes) -> None:
    finding = verify(picture(100, 80, "JPEG") + payload, ScrapeSettings())
    assert finding.refusal is not None
    assert finding.refusal.reason == facts_pb2.REFUSAL_REASON_POLYGLOT


def test_an_image_with_an_archive_behind_it_is_refused() -> None:
    sink = io.BytesIO(picture(100, 80, "JPEG"))
    sink.seek(0, io.SEEK_END)
    with zipfile.ZipFile(sink, "a") as archive:
        archive.writestr("payload.exe", b"MZ")
    finding = verify(sink.getvalue(), ScrapeSettings())
    assert finding.refusal is not None
    assert finding.refusal.detail == "an image, and an archive as well"


def test_an_image_with_a_video_or_padding_behind_it_is_taken() -> None:
    for tail in (b"\0" * 100, b"\0\0\0\x18ftypmp42" + b"\x01" * 500, b"PK\x05\x06 but no directory"):
        assert verify(picture(100, 80, "JPEG") + tail, ScrapeSettings()).refusal is None
