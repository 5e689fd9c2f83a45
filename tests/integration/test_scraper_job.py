"""Scrape jobs against the demonstration site, with real NATS and S3: what is found, refused, resumed, said."""

from __future__ import annotations

import asyncio
import hashlib
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cosmop_common.bus import Bus
from cosmop_common.errors import NotFoundError
from cosmop_common.pb.cosmop.v1 import facts_pb2, runs_pb2
from cosmop_common.store import Store
from cosmop_local.servers import free_ports
from cosmop_scraper.settings import Settings
from scraper_bench import REFUSED, Bench, draw, photo_folder, refusals, sites
from scraper_servers import Answer, Request, serving


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return photo_folder(tmp_path / "photos")


@pytest.fixture
def serve_site() -> Iterator[Callable[..., str]]:
    with sites() as start:
        yield start


@pytest.fixture
def bench(bus: Bus, store: Store) -> Bench:
    return Bench(bus, store)


async def check_outcome(bench: Bench, run: runs_pb2.Run) -> None:
    """Everything that is said of the folder above, whatever source read it."""
    scraped, sighted = await bench.scraped(), await bench.sighted()
    counts = run.stages[0].counts
    assert run.state == runs_pb2.RUN_STATE_SUCCEEDED, run.error
    assert refusals(scraped) == REFUSED
    assert len(sighted) == counts["fetched"] == 36
    assert counts["new"] == 29
    assert counts["duplicate"] == 1
    assert {s.image for s in sighted} == set(scraped)
    for image, fact in scraped.items():
        if fact.HasField("refusal"):
            with pytest.raises(NotFoundError):
                await bench.store.get_image(image)
        else:
            assert len(await bench.store.get_image(image)) == fact.size
            assert (fact.width, fact.height) == (160, 120)
            assert fact.media_type == "image/jpeg"


async def test_the_web_source_reads_the_site_page_by_page(bench: Bench, folder: Path, serve_site: Callable[..., str]) -> None:
    for i in range(60, 90):
        draw(folder / "private" / f"more-{i}.jpg", i)  # a second page
    await bench.collection()
    site = serve_site(folder)
    run = await bench.scrape(source="web", queries=[f"{site}/search?q=people"])
    scraped, sighted = await bench.scraped(), await bench.sighted()
    assert run.state == runs_pb2.RUN_STATE_SUCCEEDED, run.error
    assert len(sighted) == 66
    assert refusals(scraped) == REFUSED | {"robots": 31}
    for sighting in sighted:
        assert sighting.source == "web"
        assert sighting.image_url.startswith("http://localhost:")
        assert "/photo/" in sighting.page_url
        private = "/private/" in sighting.image_url
        assert sighting.robots == (facts_pb2.ROBOTS_DECISION_FORBIDDEN if private else facts_pb2.ROBOTS_DECISION_ALLOWED)
        assert sighting.http_status == (0 if private else 200)
    assert run.stages[0].counts["localhost|fetched"] == 66
    assert run.stages[0].counts["refused_robots"] == 31


async def test_a_second_job_fetches_nothing_again(bench: Bench, folder: Path, serve_site: Callable[..., str]) -> None:
    await bench.collection()
    query = f"{serve_site(folder)}/search?q=people"
    await check_outcome(bench, await bench.scrape(source="web", queries=[query]))
    again = await bench.scrape(source="web", queries=[query])
    assert again.stages[0].counts["known"] == 36
    assert again.stages[0].counts["fetched"] == 0
    assert len(await bench.sighted()) == 36


@pytest.mark.browser
async def test_chrome_reads_the_same_site(bench: Bench, folder: Path, serve_site: Callable[..., str]) -> None:
    await bench.collection()
    site = serve_site(folder, "--keyword", "border", "--keyword", "refugees")
    run = await bench.scrape(source="google", queries=["border", "refugees"], options={"base_url": site})
    await check_outcome(bench, run)
    queries = Counter(s.query for s in await bench.sighted())
    assert queries["border"] >= 15
    assert queries["refugees"] >= 14
    assert all(s.robots for s in await bench.sighted())


async def test_the_folder_source_reads_the_same_photos(bench: Bench, folder: Path) -> None:
    await bench.collection()
    run = await bench.scrape(source="folder", queries=[str(folder)])
    scraped = await bench.scraped()
    assert run.state == runs_pb2.RUN_STATE_SUCCEEDED, run.error
    assert refusals(scraped) == {reason: n for reason, n in REFUSED.items() if reason != "robots"}
    assert run.stages[0].counts["new"] == 30  # nobody forbids the diary here
    assert all(s.image_url.startswith("file:///") for s in await bench.sighted())


async def test_what_the_operator_overrides_is_said(bench: Bench, folder: Path, serve_site: Callable[..., str]) -> None:
    await bench.collection(respect_robots=False)
    await bench.scrape(source="web", queries=[f"{serve_site(folder)}/search?q=people"])
    diary = next(s for s in await bench.sighted() if "diary" in s.image_url)
    assert diary.robots == facts_pb2.ROBOTS_DECISION_OVERRIDDEN
    assert "robots.txt" in diary.robots_detail
    assert diary.http_status == 200


async def test_an_erased_image_is_not_stored_again(bench: Bench, folder: Path) -> None:
    await bench.collection()
    image = hashlib.sha256((folder / "group-0" / "photo 03.jpg").read_bytes()).hexdigest()
    await bench.facts.put(facts_pb2.Erased(collection="c", image=image, reason="asked"))
    run = await bench.scrape(source="folder", queries=[str(folder)])
    assert run.stages[0].counts["erased"] == 1
    assert image not in await bench.scraped()
    with pytest.raises(NotFoundError):
        await bench.store.get_image(image)
    met = [s for s in await bench.sighted() if s.image == image]
    assert [(s.title, s.author, s.page_url) for s in met] == [("", "", "")]


async def test_a_sighting_left_unsaid_is_healed(bench: Bench, folder: Path) -> None:
    await bench.collection()
    sighting = facts_pb2.Sighted(collection="c", image="a" * 64, source="web", image_url="http://gone.example/1.jpg")
    await bench.facts.create(facts_pb2.Scraped(collection="c", image="a" * 64, sighting=sighting))
    await bench.scrape(source="folder", queries=[str(folder)])
    assert "http://gone.example/1.jpg" in {s.image_url for s in await bench.sighted()}
    assert {s.image for s in await bench.sighted()} == set(await bench.scraped())


async def test_a_budget_of_images_is_met_and_not_passed(bench: Bench, folder: Path) -> None:
    await bench.collection()
    run = await bench.scrape(source="folder", queries=[str(folder)], max_images=7)
    assert run.stages[0].counts["new"] == 7
    assert run.stages[0].message == "7 images reached"


async def test_a_folder_without_images_is_an_error_that_names_it(bench: Bench, tmp_path: Path) -> None:
    await bench.collection()
    (tmp_path / "empty").mkdir()
    run = await bench.scrape(source="folder", queries=[str(tmp_path / "empty")])
    assert run.state == runs_pb2.RUN_STATE_FAILED
    assert str(tmp_path / "empty") in run.error
    assert "holds no images" in run.error


async def test_an_unreachable_site_is_an_error_that_names_it(bench: Bench) -> None:
    await bench.collection()
    (port,) = free_ports(1)
    settings = Settings(fetch_attempts=1)
    run = await bench.scrape(source="web", queries=[f"http://127.0.0.1:{port}/search"], settings=settings)
    assert run.state == runs_pb2.RUN_STATE_FAILED
    assert f"http://127.0.0.1:{port}/" in run.error


async def test_without_chrome_the_google_source_says_so(bench: Bench) -> None:
    await bench.collection()
    run = await bench.scrape(source="google", queries=["x"], settings=Settings(chrome_binary="/nowhere/chrome"))
    assert run.state == runs_pb2.RUN_STATE_FAILED
    assert "/nowhere/chrome is not installed" in run.error


async def test_this_machine_is_not_fetched_from_unless_allowed(bench: Bench, folder: Path, serve_site: Callable[..., str]) -> None:
    await bench.collection(allow_private_addresses=False)
    run = await bench.scrape(source="web", queries=[f"{serve_site(folder)}/search?q=x"])
    assert run.state == runs_pb2.RUN_STATE_FAILED
    assert "loopback" in run.error
    assert await bench.sighted() == []


async def test_a_cancelled_job_ends_and_leaves_whole_facts(bench: Bench, folder: Path, serve_site: Callable[..., str]) -> None:
    await bench.collection(requests_per_second=10)

    async def cancel() -> None:
        await asyncio.sleep(2)
        await bench.runs.cancel("stop-me")

    canceller = asyncio.create_task(cancel())
    run = await bench.scrape(run="stop-me", source="web", queries=[f"{serve_site(folder)}/search?q=x"])
    await canceller
    assert run.state == runs_pb2.RUN_STATE_CANCELLED
    sighted = await bench.sighted()
    assert 1 <= len(sighted) < 36
    assert {s.image for s in sighted} == set(await bench.scraped())


async def test_the_road_of_x_from_posts_to_facts(bench: Bench, folder: Path) -> None:
    photos = [folder / f"group-{i % 3}" / f"photo {i:02d}.jpg" for i in range(5)]

    async def search(request: Request) -> None:
        media = [{"media_key": f"3_{i}", "type": "photo", "url": f"{server.origin}/media/{i}.jpg", "alt_text": p.stem} for i, p in enumerate(photos)]
        post = {"id": "99", "text": "t", "edit_history_tweet_ids": ["99"], "author_id": "7", "attachments": {"media_keys": [m["media_key"] for m in media]}}
        await request.json({"data": [post], "includes": {"media": media, "users": [{"id": "7", "username": "ann", "name": "A"}]}, "meta": {"newest_id": "99"}})

    def photo(path: Path) -> Answer:
        data = path.read_bytes()
        return lambda request: request.answer(data, content_type="image/jpeg")

    answers: dict[str, Answer] = {f"/media/{i}.jpg": photo(p) for i, p in enumerate(photos)}
    await bench.collection()
    async with serving(answers | {"/2/tweets/search/recent": search}) as server:
        settings = Settings(x_api=server.origin, x_bearer_token="k", x_max_dollars=5)
        run = await bench.scrape(source="x", queries=["refugees"], settings=settings)
        assert all("name=orig" in path for path in server.asked if path.startswith("/media"))
    assert run.state == runs_pb2.RUN_STATE_SUCCEEDED, run.error
    assert dict(run.stages[0].result)["newest_id"] == "99"
    sighted = await bench.sighted()
    assert {s.page_url for s in sighted} == {"https://x.com/ann/status/99"}
    assert len(sighted) == 5
    for image in await bench.scraped():
        await bench.store.get_image(image)
