"""The web UI over HTTP: pages, images, filters, escaping, and what other sites may not do."""

from __future__ import annotations

import asyncio
import io
import random
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import httpx
import pytest
from cosmop_common.bus import Bus
from cosmop_common.collection import Collection
from cosmop_common.collections_kv import Collections
from cosmop_common.facts import Facts
from cosmop_common.jobs import submit
from cosmop_common.pb.cosmop.v1 import facts_pb2, runs_pb2
from cosmop_common.records import EvaluationRecord, GanRunRecord, MeasureRecord
from cosmop_common.runs import Runs
from cosmop_common.store import Store
from cosmop_console import training
from cosmop_local.servers import free_ports
from PIL import Image, ImageDraw

COLLECTION = Collection.model_validate(
    {
        "name": "border",
        "title": "Crossing <b>borders</b>",
        "concept": "People cross a border.",
        "criteria": ["A fence or a wall", "People on foot with luggage"],
        "classes": ["immigration", "other"],
        "positive": "immigration",
    }
)
EVIL = "<script>alert(1)</script>"


def drawing(seed: int) -> bytes:
    chance = random.Random(seed)
    image = Image.new("RGB", (480, 360), tuple(chance.randrange(256) for _ in range(3)))
    pen = ImageDraw.Draw(image)
    for _ in range(8):
        x, y = chance.randrange(480), chance.randrange(360)
        pen.ellipse((x, y, x + 90, y + 60), fill=tuple(chance.randrange(256) for _ in range(3)))
    sink = io.BytesIO()
    image.save(sink, "JPEG")
    return sink.getvalue()


async def fill(facts: Facts, store: Store, count: int) -> list[str]:
    """Images of every outcome; those with people are all but every tenth and the last few."""
    ids = []
    for i in range(count):
        image = await store.put_image(drawing(i), "image/jpeg")
        ids.append(image)
        where = {"collection": "border", "image": image}
        await facts.create(facts_pb2.Scraped(**where, size=9000, media_type="image/jpeg", width=480, height=360))
        url = f"http://photos.example/{i}.jpg"
        await facts.put(facts_pb2.Sighted(**where, image_url=url, page_url="javascript:alert(1)", source="web", query=EVIL, title=EVIL, robots=1))
        await facts.put(facts_pb2.Hashed(**where, phash=i * 0x9E3779B97F4A7C15 % 2**64, algorithm="a/1", width=480, height=360, cause=1))
        near = i % 10 == 9
        kind = facts_pb2.DUPLICATE_KIND_NEAR if near else facts_pb2.DUPLICATE_KIND_UNIQUE
        await facts.put(facts_pb2.Deduplicated(**where, kind=kind, kept=ids[i - 1] if near else image, distance=4 if near else 0, cause=1))
        if not near:
            score = 0.05 + 0.9 * i / count
            await facts.put(facts_pb2.Screened(**where, people=score > 0.3, score=score, threshold=0.3, model="human/1", uncertain=i % 7 == 3, cause=1))
    refusal = facts_pb2.Refusal(reason=facts_pb2.REFUSAL_REASON_TOO_MANY_PIXELS, detail="30000 x 30000 pixels")
    await facts.create(facts_pb2.Scraped(collection="border", image="a" * 64, refusal=refusal))
    await facts.put(facts_pb2.Sighted(collection="border", image="a" * 64, image_url="http://photos.example/bomb.png"))
    return ids


@pytest.fixture
async def ids(bus: Bus, store: Store) -> list[str]:
    await Collections(bus).put(COLLECTION)
    return await fill(Facts(bus), store, 20)


@pytest.fixture
async def client(bus: Bus, ids: list[str], environment: dict[str, str], tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a running console that has read everything."""
    (port,) = free_ports(1)
    ports = {"COSMOP_GRPC_PORT": "0", "COSMOP_HTTP_PORT": str(port), "COSMOP_CONSOLE_DATA": str(tmp_path / "data")}
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", "cosmop_console", env=environment | ports, stdout=asyncio.subprocess.DEVNULL)
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
        await until(lambda: _ready(client))
        yield client
    process.terminate()
    assert await asyncio.wait_for(process.wait(), 60) == 0


async def until(check: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(120):
        while not await check():  # noqa: ASYNC110 - another process
            await asyncio.sleep(0.05)


async def _ready(client: httpx.AsyncClient) -> bool:
    try:
        return (await client.get("/readyz")).status_code == 200
    except httpx.TransportError:
        return False


async def test_pages_show_and_escape(client: httpx.AsyncClient, ids: list[str], bus: Bus) -> None:
    job = runs_pb2.Job(run="scrape-1", collection="border", scrape=runs_pb2.ScrapeJob(source="folder", queries=[EVIL]))
    await submit(bus, Runs(bus), "scraper", job)
    pages = ["/", "/live", "/c/border", "/c/border/live", "/c/border/label", "/c/border/gallery", "/c/border/copies", f"/c/border/images/{ids[0]}",
             f"/c/border/images/{'a' * 64}", "/runs", "/runs/live", "/runs/scrape-1", "/reports"]  # fmt: skip
    for path in pages:
        answer = await client.get(path)
        assert answer.status_code == 200, path
        assert EVIL not in answer.text
        assert "<b>borders" not in answer.text
        assert "default-src 'self'" in answer.headers["content-security-policy"]
    page = (await client.get(f"/c/border/images/{ids[0]}")).text
    assert "javascript:alert(1)" in page
    assert 'href="javascript:' not in page, "what outsiders wrote never becomes a link that runs"
    funnel = (await client.get("/c/border")).text
    assert "too many pixels" in funnel


async def test_what_is_missing_says_so(client: httpx.AsyncClient) -> None:
    for path, word in (
        ("/c/none", "no collection"),
        ("/c/border/images/123", "is not in collection"),
        ("/runs/none", "no run"),
        ("/reports/x/report.html", ""),
    ):
        answer = await client.get(path)
        assert answer.status_code == 404
        assert word in answer.text
    freeze = await client.post("/c/border/datasets")
    assert freeze.status_code == 409
    assert "label some in the console" in freeze.text


async def test_images_come_by_id_for_ever_and_not_once_erased(client: httpx.AsyncClient, ids: list[str], bus: Bus) -> None:
    for size in (320, 1280):
        answer = await client.get(f"/c/border/images/{ids[0]}/{size}.jpg")
        assert answer.headers["content-type"] == "image/jpeg"
        assert "immutable" in answer.headers["cache-control"]
        assert max(Image.open(io.BytesIO(answer.content)).size) == min(size, 480)
    original = await client.get(f"/c/border/images/{ids[0]}/bytes")
    assert original.content == drawing(0)
    assert original.headers["x-content-type-options"] == "nosniff"
    assert (await client.get(f"/c/border/images/{ids[0]}/999.jpg")).status_code == 400
    await Facts(bus).put(facts_pb2.Erased(collection="border", image=ids[0], reason="asked"))

    async def gone() -> bool:
        return (await client.get(f"/c/border/images/{ids[0]}/320.jpg")).status_code == 404

    await until(gone)
    assert (await client.get(f"/c/border/images/{ids[0]}/bytes")).status_code == 404


async def test_the_gallery_filters(client: httpx.AsyncClient, ids: list[str]) -> None:
    async def count(query: str) -> int:
        text = (await client.get(f"/c/border/gallery?{query}")).text
        return int(text.split('role="status"><strong>')[1].split("<")[0])

    assert await count("") == 21
    assert await count("stage=near") == 2
    assert await count("stage=rejected&reason=too_many_pixels") == 1
    assert await count("stage=people") + await count("stage=none") == 18
    assert await count("low=0.3&high=0.5") == 4
    assert await count("stage=nonsense&low=x&page=zzz") == 21
    await client.post("/api/c/border/labels", json={"image": ids[12], "label": "other", "labeller": "Ann O."})

    async def labelled() -> bool:
        return await count("label=other") == 1

    await until(labelled)


async def test_labelling_takes_a_labeller_through_every_image_once(client: httpx.AsyncClient) -> None:
    async def queue(after: str = "", labeller: str = "Ann O.") -> dict:
        return (await client.get("/api/c/border/queue", params={"labeller": labeller, "after": after, "limit": 5})).json()

    seen, after = [], ""
    while images := (await queue(after))["images"]:
        seen += [i["image"] for i in images]
        after = images[-1]["place"]
    first = await queue()
    assert len(seen) == len(set(seen)) == first["progress"]["total"]
    assert first["images"][0]["uncertain"], "uncertain ones come first"
    await client.post("/api/c/border/labels", json={"image": seen[0], "label": "immigration", "labeller": "Ann O."})

    async def written() -> bool:
        return (await queue())["progress"]["mine"] == 1

    await until(written)
    assert (await queue())["images"][0]["image"] == seen[1]
    assert (await queue(labeller="bob"))["images"][0]["image"] == seen[0], "another labeller judges for himself"
    history = (await client.get("/api/c/border/history", params={"labeller": "ann-o"})).json()
    assert [h["image"] for h in history["labels"]] == [seen[0]]


async def test_other_sites_cannot_act(client: httpx.AsyncClient, ids: list[str]) -> None:
    body = {"image": ids[12], "label": "other", "labeller": "ann"}
    for headers in ({"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "same-site"}, {"Origin": "http://evil.example"}, {"Origin": "null"}):
        assert (await client.post("/api/c/border/labels", json=body, headers=headers)).status_code == 403
    assert (await client.get("/", headers={"Host": "rebound.evil.example"})).status_code == 421
    assert (await client.post("/api/c/border/labels", json=body, headers={"Sec-Fetch-Site": "same-origin"})).status_code == 200
    refused = await client.post("/api/c/border/labels", json=body | {"label": "maybe"})
    assert refused.status_code == 400
    assert "its classes are immigration, other" in refused.json()["error"]


async def test_reports_are_served_apart_from_our_origin(client: httpx.AsyncClient, store: Store) -> None:
    await store.put("reports/pipeline-1/report.html", b"<h1>Report</h1>", "text/html")
    await store.put("reports/pipeline-1/report.json", b"{}", "application/json")
    assert "/reports/pipeline-1/report.html" in (await client.get("/reports")).text
    answer = await client.get("/reports/pipeline-1/report.html")
    assert answer.headers["content-type"].startswith("text/html")
    assert answer.headers["content-security-policy"].startswith("sandbox")


async def test_a_training_run_shows_what_it_leaves(client: httpx.AsyncClient, bus: Bus, store: Store) -> None:
    runs = Runs(bus)
    for run, spec in (("g-1", {"train_gan": runs_pb2.TrainGanJob()}), ("h-1", {"train_human_detector": runs_pb2.TrainHumanDetectorJob()})):
        await runs.create(runs_pb2.Run(id=run, kind="k.train", collection="border", job=runs_pb2.Job(run=run, collection="border", **spec)))
    assert "/files/" not in (await client.get("/runs/g-1")).text, "a run that has left nothing yet shows nothing"

    await store.put("runs/g-1/snapshots/000001500/grid.png", drawing(1), "image/png")
    await store.put("runs/g-1/snapshots/000001500/generator.safetensors", b"weights")
    await store.put_json("runs/g-1/curves.json", {"names": ["kimg", "loss_g", "p"], "rows": [[0.5, 1.0, 0.0], [1.5, float("nan"), 0.1]]})
    page = (await client.get("/runs/g-1")).text
    assert "Samples at 1.5 kimg, the newest of 1 snapshots" in page
    assert "film.png" not in page
    assert "measure.svg" not in page
    grid = await client.get("/runs/g-1/files/snapshots/000001500/grid.png")
    assert grid.content == drawing(1)
    plot = await client.get("/runs/g-1/drawings/curves.svg")
    assert plot.headers["content-type"].startswith("image/svg+xml")
    assert "prefers-color-scheme: dark" in plot.text
    assert (await client.get("/runs/g-1/drawings/measure.svg")).status_code == 404

    await store.put("runs/g-1/film.png", drawing(2), "image/png")
    # The first was measured in another way (its run was resumed with another protocol): it is on no curve with the second.
    for images, protocol, value in ((500, "fid-clean/1", 777.5), (1500, "fid/1", 210.5)):
        await EvaluationRecord(
            run="e", reference="r", candidate="s", measures=[MeasureRecord(name="fid", value=value)], protocol=protocol, reference_images=5, candidate_images=4
        ).save(store, f"runs/g-1/evaluations/{images:09d}.json")
    await GanRunRecord(
        run="g-1", collection="border", dataset="border/v1", label="", resolution=32, preset="tiny", images=50, settings={"ada_cap": 0.8, "ada_target": 0.6},
        parameters={}, seconds=60, ended_because="kimg reached", snapshots=[1.5], best=1.5, best_because="lowest fid: 210.5 at 1.5 kimg",
    ).save(store, "runs/g-1/gan.json")  # fmt: skip
    page = (await client.get("/runs/g-1/live")).text
    assert "Samples at 1.5 kimg, the best snapshot" in page
    assert "Why this one: lowest fid: 210.5 at 1.5 kimg." in page
    assert "/runs/g-1/files/film.png" in page
    assert "210.5" in (await client.get("/runs/g-1/drawings/measure.svg")).text
    drawn = await training.measured(store, "g-1")
    assert drawn is not None
    assert list(drawn.points) == [(1.5, 210.5, None)]
    assert "cap of p: 0.8" in (await client.get("/runs/g-1/drawings/curves.svg")).text

    await store.put("runs/h-1/training/curves.svg", b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>", "image/svg+xml")
    assert "/runs/h-1/files/training/curves.svg" in (await client.get("/runs/h-1")).text
    tuning = await client.get("/runs/h-1/files/training/curves.svg")
    assert tuning.headers["content-security-policy"].startswith("sandbox; default-src 'none'"), "opened by itself, its script does not run"
    for path in ("files/snapshots/000001500/generator.safetensors", "files/gan.json", "files/..%2F..%2Fimages", "files/film.png.bak", "drawings/x.svg"):
        assert (await client.get(f"/runs/g-1/{path}")).status_code == 404, path
