"""A job process killed again and again, at any moment, loses nothing, says nothing twice, and fetches again only what was in flight."""

from __future__ import annotations

import asyncio
import random
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from cosmop_common.bus import Bus
from cosmop_common.jobs import submit
from cosmop_common.pb.cosmop.v1 import runs_pb2
from cosmop_common.store import Store
from scraper_bench import REFUSED, Bench, draw, photo_folder, refusals
from scraper_servers import Answer, serving

KILLS = 4
#: Downloads on their way at once, by COSMOP_BACKLOG: what one kill may cost.
IN_FLIGHT = 8
GOOD = 120


@pytest.fixture(autouse=True)
def _quick_redelivery(monkeypatch: pytest.MonkeyPatch) -> None:
    """The job of a dead process goes to the next after two seconds, not thirty."""
    monkeypatch.setenv("COSMOP_ACK_WAIT", "2")
    monkeypatch.setenv("COSMOP_BACKLOG", str(IN_FLIGHT))


def site(folder: Path) -> dict[str, Answer]:
    """All photos of the folder, one of them forbidden to robots, each answered after a moment."""
    photo_folder(folder)
    for seed in range(100, 100 + GOOD - 29):
        draw(folder / f"more-{seed}.jpg", seed)

    def answer(file: Path) -> Answer:
        data = file.read_bytes()

        async def slowly(request) -> None:
            await asyncio.sleep(0.02)
            await request.answer(data, content_type="image/jpeg")

        return slowly

    files = [p for p in folder.rglob("*") if p.is_file()]
    return {"/" + str(p.relative_to(folder)).replace(" ", "%20"): answer(p) for p in files} | {
        "/robots.txt": lambda r: r.answer(b"User-agent: *\nDisallow: /private/\n")
    }


async def test_killed_at_any_moment(bus: Bus, store: Store, environment: dict[str, str], tmp_path: Path) -> None:
    bench = Bench(bus, store)
    await bench.collection(requests_per_second=20, connections_per_host=4)
    moments = random.Random(7)
    command = [sys.executable, "-m", "cosmop_scraper", "job"]
    answers = site(tmp_path / "photos")
    # For each kill: how many requests there had been, and which URLs were settled.
    kills: list[tuple[int, set[str]]] = []
    async with serving(answers) as server:
        urls = [server.origin + path for path in answers if path != "/robots.txt"]
        (tmp_path / "urls.txt").write_text("\n".join(urls))
        job = runs_pb2.Job(collection="c", scrape=runs_pb2.ScrapeJob(source="urls", queries=[str(tmp_path / "urls.txt")]))
        run = await submit(bus, bench.runs, "scraper", job)
        with (tmp_path / "job.log").open("wb") as log:
            for number in range(KILLS):
                process = subprocess.Popen(command, stdout=log, stderr=log)  # noqa: ASYNC220
                before = len(server.asked)
                async with asyncio.timeout(240):
                    while len(server.asked) == before:
                        await asyncio.sleep(0.02)
                        assert process.poll() is None, (tmp_path / "job.log").read_text()
                    # Every other one once its progress is kept: three attempts in a row without any would end the job.
                    while number % 2 and (await bench.runs.get(run.id)).attempts:  # noqa: ASYNC110
                        await asyncio.sleep(0.02)
                await asyncio.sleep(moments.uniform(0, 0.7))
                process.kill()
                process.wait()
                # What was said before the kill is settled, whatever it costs to find that out.
                kills.append((len(server.asked), {s.image_url for s in await bench.sighted()}))
            process = subprocess.Popen(command, stdout=log, stderr=log)  # noqa: ASYNC220
            try:
                async with asyncio.timeout(240):
                    last = await bench.ended(run.id)
            finally:
                process.terminate()
                process.wait(60)
    scraped, sighted = await bench.scraped(), await bench.sighted()
    asked = Counter(path for path in server.asked if path != "/robots.txt")
    assert last.state == runs_pb2.RUN_STATE_SUCCEEDED, last.error
    assert sorted(s.image_url for s in sighted) == sorted(urls)
    assert {s.image for s in sighted} == set(scraped)
    assert refusals(scraped) == REFUSED
    for image, fact in scraped.items():
        assert fact.HasField("refusal") or len(await store.get_image(image)) == fact.size
    assert sum(asked.values()) - len(asked) <= KILLS * IN_FLIGHT, asked.most_common(20)
    for asked_then, settled in kills:
        assert not settled & {server.origin + path for path in server.asked[asked_then:]}
