"""Chrome on its leash: nothing is left behind, crashes are survived, and pages that are no results are typed errors."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from cosmop_common.bus import Bus
from cosmop_common.pb.cosmop.v1 import facts_pb2, runs_pb2
from cosmop_common.store import Store
from cosmop_scraper import chrome as chrome_module
from cosmop_scraper.addresses import GuardedBackend
from cosmop_scraper.chrome import Chrome, sweep
from cosmop_scraper.settings import Settings
from scraper_bench import Bench
from scraper_result_page import PAGES, ResultPage

pytestmark = pytest.mark.browser


@pytest.fixture(autouse=True)
def tmp(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Browsers of other tests and processes are none of these tests' business. Short, for Chrome's sockets."""
    with tempfile.TemporaryDirectory(prefix="browser-") as folder:
        monkeypatch.setattr("tempfile.tempdir", folder)
        yield Path(folder)


def browsers(folder: Path) -> list[int]:
    """Processes that use a folder, zombies included."""
    found = []
    for process in psutil.process_iter(["cmdline", "pid"]):
        if any(str(folder) in part for part in process.info["cmdline"] or []):
            found.append(process.pid)
    return found


async def gone(folder: Path) -> bool:
    """Whether no process uses a folder any more; a killed one may take a moment to go."""
    for _ in range(600):
        if not browsers(folder):
            return True
        await asyncio.sleep(0.05)
    return False


def zombies(processes: list[psutil.Process]) -> Iterator[int]:
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            if process.status() == psutil.STATUS_ZOMBIE:
                yield process.pid


def folders(tmp: Path) -> list[Path]:
    return list(tmp.glob("cosmop-chrome-*"))


async def test_nothing_is_left_after_closing(tmp: Path) -> None:
    before, empty = {p.pid for p in psutil.Process().children(recursive=True)}, folders(tmp)
    chrome = Chrome(Settings(), GuardedBackend(allow_private=True))
    assert await chrome.run(lambda d: d.execute_script("return 1 + 1")) == 2
    assert browsers(tmp)
    await chrome.close()
    assert await gone(tmp)
    assert {p.pid for p in psutil.Process().children(recursive=True)} <= before
    assert folders(tmp) == empty == []


async def test_a_crashed_browser_comes_back(tmp: Path) -> None:
    chrome = Chrome(Settings(), GuardedBackend(allow_private=True))
    await chrome.run(lambda d: d.get("data:text/html,<title>before</title>"))
    for pid in browsers(tmp):
        try:
            psutil.Process(pid).kill()
        except psutil.NoSuchProcess:
            continue
    assert await chrome.run(lambda d: (d.get("data:text/html,<title>after</title>"), d.title)[1]) == "after"
    await chrome.close()
    assert await gone(tmp)


def test_what_a_killed_scraper_left_is_swept(tmp: Path) -> None:
    program = (
        "import asyncio, os\n"
        "from cosmop_scraper.chrome import Chrome\n"
        "from cosmop_scraper.addresses import GuardedBackend\n"
        "from cosmop_scraper.settings import Settings\n"
        "asyncio.run(Chrome(Settings(), GuardedBackend(allow_private=True)).run(lambda d: d.title))\n"
        "os.kill(os.getpid(), 9)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], env=os.environ | {"TMPDIR": str(tmp)}, timeout=300, check=False)
    assert done.returncode == -9
    assert browsers(tmp)
    assert sweep() == 1
    assert asyncio.run(gone(tmp))
    assert folders(tmp) == []


@pytest.fixture
def results(tmp_path: Path) -> Iterator[ResultPage]:
    page = ResultPage(tmp_path / "shown")
    yield page
    page.close()


async def google(bench: Bench, results: ResultPage, *queries: str, run: str = "", **more: object) -> runs_pb2.Run:
    options = {"base_url": results.origin, "settle_ms": "1000"}
    return await bench.scrape(run=run, source="google", queries=queries, options=options, **more)


async def test_the_road_of_google_from_keywords_to_facts(bus: Bus, store: Store, results: ResultPage, tmp: Path) -> None:
    """Links that grow by scrolling and by a button, pages, and URLs in scripts only: all photos, and no thumbnail."""
    bench = Bench(bus, store)
    await bench.collection(respect_robots=False)
    run = await google(bench, results, "links", "pages", "script")
    assert run.state == runs_pb2.RUN_STATE_SUCCEEDED, run.error
    scraped, sighted = await bench.scraped(), await bench.sighted()
    assert len(scraped) == len(sighted) == run.stages[0].counts["new"] == 18
    assert not any("/small/" in s.image_url or "gstatic" in s.image_url for s in sighted)
    assert {(s.source, s.query, s.page_url) for s in sighted} == {("google", "links", "https://news.example/story")}
    assert {s.title for s in sighted} == {f"photo {i}" for i in range(18)}
    assert {s.robots for s in sighted} == {facts_pb2.ROBOTS_DECISION_OVERRIDDEN}
    assert all("robots.txt" in s.robots_detail for s in sighted)
    for image, fact in scraped.items():
        assert len(await store.get_image(image)) == fact.size
    pages = [path for path in results.asked if path.startswith("/search?q=pages&start=")]
    assert pages == ["/search?q=pages&start=6", "/search?q=pages&start=12"]
    assert not any(path.startswith("/small/") for path in results.asked)
    assert await gone(tmp)
    assert folders(tmp) == []


async def test_urls_in_scripts_are_the_fallback(bus: Bus, store: Store, results: ResultPage) -> None:
    bench = Bench(bus, store)
    await bench.collection(respect_robots=False)
    run = await google(bench, results, "script")
    assert run.stages[0].counts["new"] == len(await bench.scraped()) == 12
    assert run.stages[0].counts["failed"] == 0


async def test_robots_txt_refuses_the_search_unless_it_is_overridden(bus: Bus, store: Store, results: ResultPage) -> None:
    bench = Bench(bus, store)
    await bench.collection()
    run = await google(bench, results, "links")
    assert run.state == runs_pb2.RUN_STATE_FAILED
    assert "respect_robots: false" in run.error
    assert results.asked == ["/robots.txt"]
    assert await bench.sighted() == []


async def test_pages_without_results_are_typed_errors_with_their_evidence_kept(bus: Bus, store: Store, results: ResultPage) -> None:
    bench = Bench(bus, store)
    await bench.collection(respect_robots=False)
    words = {"consent": "asks for consent", "blocked": "takes this machine for a robot", "unknown": "its layout has changed"}
    for query, said in words.items():
        run = await google(bench, results, query, run=query)
        assert run.state == runs_pb2.RUN_STATE_FAILED
        assert said in run.error
        assert PAGES[query][:20].encode() in await store.get(f"runs/{query}/google-page.html")
        assert (await store.get(f"runs/{query}/google-page.png")).startswith(b"\x89PNG")


async def test_a_block_in_the_middle_is_no_end_of_results(bus: Bus, store: Store, results: ResultPage) -> None:
    bench = Bench(bus, store)
    await bench.collection(respect_robots=False)
    run = await google(bench, results, "blocked-later", run="later")
    assert run.state == runs_pb2.RUN_STATE_FAILED
    assert "takes this machine for a robot" in run.error
    assert b"captcha-form" in await store.get("runs/later/google-page.html")
    assert len(await bench.sighted()) == 6  # what was found before stays


async def test_a_search_without_results_says_so(bus: Bus, store: Store, results: ResultPage) -> None:
    bench = Bench(bus, store)
    await bench.collection(respect_robots=False)
    run = await google(bench, results, "nothing")
    assert run.state == runs_pb2.RUN_STATE_FAILED
    assert "finds no images for 'nothing'" in run.error


async def test_a_browser_that_dies_in_the_middle_of_a_search_comes_back(bus: Bus, store: Store, results: ResultPage, tmp: Path) -> None:
    bench = Bench(bus, store)
    await bench.collection(respect_robots=False, requests_per_second=3)
    working = asyncio.create_task(google(bench, results, "pages"))
    async with asyncio.timeout(240):
        while not any("start=6" in path for path in results.asked):  # noqa: ASYNC110 - the server is a thread
            await asyncio.sleep(0.02)
    for pid in browsers(tmp):
        with contextlib.suppress(psutil.NoSuchProcess):
            psutil.Process(pid).kill()
    run = await working
    assert run.state == runs_pb2.RUN_STATE_SUCCEEDED, run.error
    assert len(await bench.scraped()) == 18
    assert await gone(tmp)
    assert not list(zombies(psutil.Process().children(recursive=True)))


async def test_pages_reach_no_private_address(results: ResultPage) -> None:
    chrome = Chrome(Settings(), GuardedBackend(allow_private=False))
    local = results.origin.replace("127.0.0.1", "localhost")
    framed = f"data:text/html,<iframe src='{results.origin}/photo/1.jpg'></iframe><script src='{local}/photo/2.jpg'></script>"
    try:
        for url in (f"{results.origin}/search?q=nothing", f"{local}/search?q=nothing", "http://169.254.169.254/latest/meta-data"):
            text = await chrome.load(url, lambda d: d.find_element("tag name", "body").text)
            assert "the scraper fetches from the public internet only" in text
        await chrome.load(framed, lambda d: d.title)
        await asyncio.sleep(0.5)
    finally:
        await chrome.close()
    assert results.asked == []


async def test_a_browser_that_has_shown_many_pages_is_replaced(results: ResultPage, tmp: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chrome_module, "_MOST_PAGES", 2)
    chrome = Chrome(Settings(), GuardedBackend(allow_private=True))
    seen = []
    for _ in range(3):
        await chrome.load(f"{results.origin}/search?q=nothing", lambda d: d.title)
        seen.append(str(folders(tmp)))
    await chrome.close()
    assert len(set(seen)) == 2
    assert await gone(tmp)
