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
from PIL import Image
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
    await bench.collection(requests_per_second=2)  # eighteen seconds for all: whatever cancelling takes, it is in the middle

    async def cancel() -> None:
        while len(await bench.sighted()) < 3:  # noqa: ASYNC110 - facts are asked for, they do not tell
            await asyncio.sleep(0.05)
        await bench.runs.cancel("stop-me")

    canceller = asyncio.create_task(cancel())
    run = await bench.scrape(run="stop-me", source="web", queries=[f"{serve_site(folder)}/search?q=x"])
    await canceller
    assert run.state == runs_pb2.RUN_STATE_CANCELLED
    sighted = await bench.sighted()
    assert 1 <= len(sighted) < 36
    assert {s.image for s in sighted} == set(await bench.scraped())


@pytest.mark.parametrize("asked_for", [False, True])
async def test_where_a_photo_was_taken_is_said_only_where_asked_for(bench: Bench, tmp_path: Path, asked_for: bool) -> None:
    exif = Image.Exif()
    exif.get_ifd(0x8825).update({1: "N", 2: (48.0, 51.0, 30.6), 3: "W", 4: (2.0, 17.0, 40.2)})
    exif.get_ifd(0x8769)[0x9003] = "2026:01:01 12:00:00"
    Image.effect_noise((200, 150), 60).convert("RGB").save(tmp_path / "here.jpg", exif=exif)
    draw(tmp_path / "nowhere.jpg", 1)
    await bench.collection(keep_location=asked_for)
    run = await bench.scrape(source="folder", queries=[str(tmp_path)])
    assert run.state == runs_pb2.RUN_STATE_SUCCEEDED, run.error
    data = (tmp_path / "here.jpg").read_bytes()
    image = hashlib.sha256(data).hexdigest()
    scraped = await bench.scraped()
    assert await bench.store.get_image(image) == data  # the bytes are kept as they came
    assert [fact.HasField("location") for name, fact in scraped.items() if name != image] == [False]
    assert scraped[image].HasField("location") == asked_for
    if asked_for:
        assert scraped[image].location.latitude == pytest.approx(48.8585, abs=1e-6)
        assert scraped[image].location.longitude == pytest.approx(-2.2945, abs=1e-6)


async def test_the_road_of_x_resumes_after_the_newest_post(bench: Bench, folder: Path) -> None:
    """Two jobs: the second asks for what came after the first, as the first one's result says, and the key is in no fact."""
    photo = (folder / "group-0" / "photo 00.jpg").read_bytes()

    async def search(request: Request) -> None:
        first = int(request.path.partition("since_id=")[2].partition("&")[0] or 0) + 1
        media = [{"media_key": f"3_{first}", "type": "photo", "url": f"{server.origin}/media/{first}.jpg"}]
        post = {"id": str(first), "text": "t", "edit_history_tweet_ids": [str(first)], "author_id": "7", "attachments": {"media_keys": [f"3_{first}"]}}
        await request.json({"data": [post], "includes": {"media": media}, "meta": {"newest_id": str(first)}})

    await bench.collection()
    async with serving({"/2/tweets/search/recent": search}) as server:
        server.answers |= {f"/media/{i}.jpg": lambda r, i=i: r.answer(photo + bytes(i), content_type="image/jpeg") for i in (1, 2)}
        settings = Settings(x_api=server.origin, x_bearer_token="AAAAkeyAAAA", x_max_dollars=5)
        first = await bench.scrape(source="x", queries=["refugees"], settings=settings)
        newest = first.stages[0].result["newest_id"]
        second = await bench.scrape(source="x", queries=["refugees"], settings=settings, options={"since_id": newest})
        assert [h["authorization"] for h in server.seen_headers if "authorization" in h] == ["Bearer AAAAkeyAAAA"] * 2
        assert all("authorization" not in h for p, h in zip(server.asked, server.seen_headers, strict=True) if p.startswith("/media"))
    assert (newest, second.stages[0].result["newest_id"]) == ("1", "2")
    assert second.stages[0].counts["new"] == 1
    assert first.stages[0].result["estimate"].startswith("at most $5.00")
    said = b"".join(s.SerializeToString() for s in await bench.sighted()) + first.SerializeToString() + second.SerializeToString()
    assert b"AAAAkeyAAAA" not in said


async def test_an_image_found_in_several_places_has_all_its_sightings(bench: Bench, folder: Path) -> None:
    photo = (folder / "group-0" / "photo 00.jpg").read_bytes()
    answers: dict[str, Answer] = {f"/{name}.jpg": lambda r: r.answer(photo, content_type="image/jpeg") for name in "abc"}
    await bench.collection()
    async with serving(answers) as server:
        (folder / "list.csv").write_text("url,page_url,license,author\n" + "".join(f"{server.origin}/{n}.jpg,http://{n}.example/,CC0,{n}\n" for n in "abc"))
        run = await bench.scrape(source="urls", queries=[str(folder / "list.csv")])
    sighted = await bench.sighted()
    assert len(await bench.scraped()) == 1
    assert {(s.page_url, s.author, s.licence) for s in sighted} == {(f"http://{n}.example/", n, "CC0") for n in "abc"}
    assert (run.stages[0].counts["new"], run.stages[0].counts["duplicate"]) == (1, 2)


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
