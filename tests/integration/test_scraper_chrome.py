"""Chrome on its leash: nothing is left behind, crashes are survived, and pages that are no results are typed errors."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import psutil
import pytest
from cosmop_common.bus import Bus
from cosmop_common.pb.cosmop.v1 import runs_pb2
from cosmop_common.store import Store
from cosmop_scraper.chrome import Chrome, sweep
from cosmop_scraper.settings import Settings
from scraper_bench import Bench

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


def folders(tmp: Path) -> list[Path]:
    return list(tmp.glob("cosmop-chrome-*"))


async def test_nothing_is_left_after_closing(tmp: Path) -> None:
    before, empty = {p.pid for p in psutil.Process().children(recursive=True)}, folders(tmp)
    chrome = Chrome(Settings())
    assert await chrome.run(lambda d: d.execute_script("return 1 + 1")) == 2
    assert browsers(tmp)
    await chrome.close()
    assert browsers(tmp) == []
    assert {p.pid for p in psutil.Process().children(recursive=True)} <= before
    assert folders(tmp) == empty == []


async def test_a_crashed_browser_comes_back(tmp: Path) -> None:
    chrome = Chrome(Settings())
    await chrome.run(lambda d: d.get("data:text/html,<title>before</title>"))
    for pid in browsers(tmp):
        try:
            psutil.Process(pid).kill()
        except psutil.NoSuchProcess:
            continue
    assert await chrome.run(lambda d: (d.get("data:text/html,<title>after</title>"), d.title)[1]) == "after"
    await chrome.close()
    assert browsers(tmp) == []


def test_what_a_killed_scraper_left_is_swept(tmp: Path) -> None:
    program = (
        "import asyncio, os\n"
        "from cosmop_scraper.chrome import Chrome\n"
        "from cosmop_scraper.settings import Settings\n"
        "asyncio.run(Chrome(Settings()).run(lambda d: d.title))\n"
        "os.kill(os.getpid(), 9)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], env=os.environ | {"TMPDIR": str(tmp)}, timeout=60, check=False)
    assert done.returncode == -9
    assert browsers(tmp)
    assert sweep() == 1
    assert browsers(tmp) == []
    assert folders(tmp) == []


PAGES = {
    "consent": '<form action="https://consent.google.com/save"><button>Accept all</button></form>',
    "blocked": "<p>Our systems have detected unusual traffic from your computer network.</p>",
    "unknown": '<div class="fresh">everything is new</div>',
    "nothing": "<p>Your search did not match any image results.</p>",
}


@pytest.fixture
def search_engine() -> Iterator[str]:
    """Answers a search for "consent" with a consent wall, and so on."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found = next((p for word, p in PAGES.items() if f"q={word}" in self.path), None)
            self.send_response(200 if found else 404)
            self.send_header("content-type", "text/html")
            self.end_headers()
            self.wfile.write((found or "").encode())

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


async def test_pages_without_results_are_typed_errors_with_their_evidence_kept(bus: Bus, store: Store, search_engine: str) -> None:
    bench = Bench(bus, store)
    await bench.collection()
    words = {"consent": "asks for consent", "blocked": "takes this machine for a robot", "unknown": "its layout has changed"}
    for query, said in words.items():
        run = await bench.scrape(run=query, source="google", queries=[query], options={"base_url": search_engine})
        assert run.state == runs_pb2.RUN_STATE_FAILED
        assert said in run.error
        assert PAGES[query][:20].encode() in await store.get(f"runs/{query}/google-page.html")
        assert (await store.get(f"runs/{query}/google-page.png")).startswith(b"\x89PNG")


async def test_a_search_without_results_says_so(bus: Bus, store: Store, search_engine: str) -> None:
    bench = Bench(bus, store)
    await bench.collection()
    run = await bench.scrape(source="google", queries=["nothing"], options={"base_url": search_engine})
    assert run.state == runs_pb2.RUN_STATE_FAILED
    assert "finds no images for 'nothing'" in run.error
