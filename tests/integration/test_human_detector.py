"""The human detector on real servers: Deduplicated in, Screened out; trained by a job; another model screens again."""

from __future__ import annotations

import asyncio
import csv
import io
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest
from cosmop_common.bus import Bus
from cosmop_common.collection import Collection
from cosmop_common.collections_kv import Collections
from cosmop_common.facts import Facts
from cosmop_common.jobs import submit
from cosmop_common.models_kv import ActiveModels
from cosmop_common.names import model_key
from cosmop_common.pb.cosmop.v1 import facts_pb2, runs_pb2
from cosmop_common.records import ModelCard
from cosmop_common.runs import Runs
from cosmop_common.settings import ConnectionSettings
from cosmop_common.store import Store
from cosmop_human_detector.jobs import train_human_detector
from cosmop_human_detector.models import Models
from cosmop_human_detector.registry import list_cards, register, shipped
from cosmop_human_detector.screening import Screener
from cosmop_human_detector.settings import Settings
from cosmop_human_detector.worker import rescreen_collection
from PIL import Image, ImageDraw
from work_off import work_off

COLLECTION = Collection(name="c", classes=("yes", "no"), positive="yes")


def drawing(seed: int, figure: bool) -> bytes:
    """A scene; with a figure, somebody stands in it."""
    random = np.random.default_rng(seed)
    image = Image.new("RGB", (240, 180), tuple(int(v) for v in random.integers(120, 220, 3)))
    draw = ImageDraw.Draw(image)
    for _ in range(6):
        x, y, w, h = (int(v) for v in random.integers(0, 160, 4))
        draw.rectangle((x, y, x + w // 3, y + h // 3), fill=tuple(int(v) for v in random.integers(0, 255, 3)))
    if figure:
        x, y = int(random.integers(40, 160)), int(random.integers(10, 40))
        draw.ellipse((x, y, x + 36, y + 40), fill=(224, 172, 135))
        draw.rectangle((x - 8, y + 40, x + 44, y + 120), fill=(30, 40, 120))
    sink = io.BytesIO()
    image.save(sink, "PNG")
    return sink.getvalue()


def write_folder(folder: Path, count: int) -> Path:
    folder.mkdir()
    with (folder / "labels.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["file", "label"])
        for i in range(count):
            (folder / f"{i}.png").write_bytes(drawing(i, figure=i % 2 == 0))
            table.writerow([f"{i}.png", "human" if i % 2 == 0 else "no_human"])
    return folder


@pytest.fixture
async def models(bus: Bus, store: Store) -> AsyncIterator[Models]:
    models = Models(store, ActiveModels(bus), batch=8, seconds=0.01)
    await models.set_default(*shipped())
    yield models
    await models.close()


@pytest.fixture
async def screener(bus: Bus, store: Store, models: Models) -> Screener:
    collections = Collections(bus)
    await collections.put(COLLECTION)
    return Screener(Facts(bus), store, collections, models)


async def put_unique(bus: Bus, store: Store, data: bytes, kind: int = facts_pb2.DUPLICATE_KIND_UNIQUE) -> str:
    image = await store.put_image(data, "image/png")
    await Facts(bus).put(facts_pb2.Deduplicated(collection="c", image=image, kind=kind, kept=image, cause=1))
    return image


async def screened(bus: Bus, image: str) -> facts_pb2.Screened | None:
    last = await Facts(bus).last(facts_pb2.Screened, "c", image)
    return last.fact if last else None


async def test_the_service_screens_what_is_unique_and_drains(bus: Bus, store: Store, environment: dict[str, str], tmp_path: Path) -> None:
    await Collections(bus).put(COLLECTION)
    images = [await put_unique(bus, store, drawing(i, figure=i % 2 == 0)) for i in range(12)]
    broken = await put_unique(bus, store, drawing(98, figure=True)[:300])
    copy = await put_unique(bus, store, drawing(99, figure=True), facts_pb2.DUPLICATE_KIND_NEAR)
    ports = {"COSMOP_GRPC_PORT": "0", "COSMOP_HTTP_PORT": "0", "OMP_NUM_THREADS": "1"}
    with (tmp_path / "log").open("w") as log:
        child = subprocess.Popen([sys.executable, "-m", "cosmop_human_detector"], env=os.environ | environment | ports, stdout=log, stderr=log)  # noqa: ASYNC220 - returns at once
    try:
        async with asyncio.timeout(180):
            while not all([await screened(bus, image) for image in [*images, broken]]):
                assert child.poll() is None, (tmp_path / "log").read_text()
                await asyncio.sleep(0.2)
    finally:
        child.send_signal(signal.SIGTERM)
        status = child.wait(60)
    assert status == 0, (tmp_path / "log").read_text()
    card, _ = shipped()
    for image in images:
        fact = await screened(bus, image)
        assert fact is not None
        assert fact.model == f"human/{card.version}"
        assert fact.threshold == card.threshold
        assert fact.people == (fact.score >= fact.threshold)
        assert fact.cause > 0
    refused = await screened(bus, broken)
    assert refused is not None
    assert refused.refusal.reason == facts_pb2.REFUSAL_REASON_CORRUPT
    assert await screened(bus, copy) is None
    assert (await bus.js.stream_info("DEAD")).state.messages == 0


async def test_nothing_is_computed_twice(bus: Bus, store: Store, screener: Screener) -> None:
    image = await put_unique(bus, store, drawing(1, figure=True))
    assert await screener.screen("c", image, 1)
    await store.delete(f"images/{image[:2]}/{image}")
    assert not await screener.screen("c", image, 1)


async def test_another_threshold_decides_from_the_stored_score(bus: Bus, store: Store, models: Models, screener: Screener) -> None:
    image = await put_unique(bus, store, drawing(1, figure=True))
    await screener.screen("c", image, 1)
    before = await screened(bus, image)
    assert before is not None
    card, files = shipped()
    moved = 0.5 * before.score if not before.people else 0.5 * (1 + before.score)
    await register(store, card.model_copy(update={"name": "human-c", "version": "moved", "threshold": moved}), files)
    await models.activate("human-c", "moved")
    # Were the image read again, this would fail.
    await store.delete(f"images/{image[:2]}/{image}")
    assert await rescreen_collection(Facts(bus), screener, "c", concurrency=4) == 1
    after = await screened(bus, image)
    assert after is not None
    assert after.model == "human-c/moved"
    assert after.score == before.score
    assert after.people != before.people


async def test_the_grey_band_goes_to_people_where_the_collection_says_so(bus: Bus, store: Store, models: Models, screener: Screener) -> None:
    image = await put_unique(bus, store, drawing(1, figure=True))
    await screener.screen("c", image, 1)
    before = await screened(bus, image)
    assert before is not None
    card, files = shipped()
    # Just below the threshold, and in the band.
    band = card.details | {"band": [before.score - 0.001, 1.0]}
    await register(store, card.model_copy(update={"name": "human-c", "version": "grey", "threshold": before.score + 0.001, "details": band}), files)
    await models.activate("human-c", "grey")
    await store.delete(f"images/{image[:2]}/{image}")
    verdicts = []
    for choice in ("decide", "ask", "ask", "decide"):
        settings = COLLECTION.human_detector.model_copy(update={"grey_band": choice})
        await screener._collections.put(COLLECTION.model_copy(update={"human_detector": settings}))
        changed = await rescreen_collection(Facts(bus), screener, "c", concurrency=4)
        fact = await screened(bus, image)
        assert fact is not None
        assert fact.uncertain
        verdicts.append((fact.people, changed))
    assert verdicts == [(False, 1), (True, 1), (True, 0), (False, 1)]


async def test_an_erased_image_is_left_alone(bus: Bus, store: Store, screener: Screener) -> None:
    image = await put_unique(bus, store, drawing(1, figure=True))
    await Facts(bus).put(facts_pb2.Erased(collection="c", image=image))
    await store.delete(f"images/{image[:2]}/{image}")
    assert not await screener.screen("c", image, 1)
    assert await screened(bus, image) is None


async def test_a_job_trains_a_head_once_and_activates_it(
    bus: Bus, store: Store, settings: ConnectionSettings, models: Models, screener: Screener, tmp_path: Path
) -> None:
    folder = write_folder(tmp_path / "world", 80)
    runs, active = Runs(bus), ActiveModels(bus)
    handlers = {"train_human_detector": train_human_detector(store, active, Settings(human_detector_size=128))}

    async def run(name: str) -> runs_pb2.Run:
        spec = runs_pb2.TrainHumanDetectorJob(data=[str(folder)])
        await submit(bus, runs, "human-detector", runs_pb2.Job(run=name, collection="c", train_human_detector=spec))
        await work_off(bus, "human-detector", handlers, settings)
        return await runs.get(name)

    first = await run("train-1")
    assert first.state == runs_pb2.RUN_STATE_SUCCEEDED, first.error
    name, _, version = first.result["model"].partition("/")
    assert name == "human-c"
    assert await active.get(name) == version
    card = await ModelCard.load(store, model_key(name, version, "card.json"))
    assert len(card.details["fitted_on"]) == 80
    assert card.metrics["held_out"]["accuracy"].value is not None
    assert card.metrics["held_out"]["accuracy"].value > 0.9

    again = await run("train-2")
    assert again.result["model"] == first.result["model"]
    assert [stage.name for stage in again.stages] == ["index"]
    assert len([c for c in await list_cards(store) if c.name == "human-c"]) == 1

    await models.activate(name, version)
    verdicts = []
    for i in range(200, 220):
        image = await put_unique(bus, store, drawing(i, figure=i % 2 == 0))
        await screener.screen("c", image, 1)
        fact = await screened(bus, image)
        assert fact is not None
        assert fact.model == first.result["model"]
        verdicts.append(fact.people == (i % 2 == 0))
    assert np.mean(verdicts) >= 0.9


async def test_a_job_on_a_folder_without_labels_fails_with_the_cure(bus: Bus, store: Store, settings: ConnectionSettings, tmp_path: Path) -> None:
    runs = Runs(bus)
    spec = runs_pb2.TrainHumanDetectorJob(data=[str(tmp_path)])
    await submit(bus, runs, "human-detector", runs_pb2.Job(run="train-bad", collection="c", train_human_detector=spec))
    handlers = {"train_human_detector": train_human_detector(store, ActiveModels(bus), Settings())}
    await work_off(bus, "human-detector", handlers, settings)
    run = await runs.get("train-bad")
    assert run.state == runs_pb2.RUN_STATE_FAILED
    assert "labels.csv" in run.error
