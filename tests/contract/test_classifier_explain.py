"""Explain over a real channel, and uncertain answers on their way to the console's labelling queue."""

from __future__ import annotations

import asyncio
import io
from pathlib import Path

import grpc
import numpy as np
import pytest
from classifier_world import CHANNELS, PREPROCESSING, drawing, serving, tiny_bank, tiny_model
from cosmop_classifier.client import ClassifierClient
from cosmop_classifier.heads import LinearHead, unit
from cosmop_classifier.training_neighbours import EMBEDDINGS
from cosmop_common.bus import Bus
from cosmop_common.facts import Facts
from cosmop_common.models_kv import ActiveModels
from cosmop_common.names import model_key, sha256_hex
from cosmop_common.pb.cosmop.v1 import classifier_pb2 as pb
from cosmop_common.pb.cosmop.v1 import facts_pb2
from cosmop_common.store import Store
from cosmop_console import database, funnel, labelling
from cosmop_console.worker import Follower
from PIL import Image
from prometheus_client import REGISTRY

PHOTOS = [drawing(i, i % 2 == 0) for i in range(8)]


@pytest.fixture
async def training(bus: Bus, store: Store, tmp_path: Path) -> list[str]:
    """Two models trained on eight drawings, one of them erased since; the one-class model's bank is not of their features."""
    ids = [await store.put_image(photo, "image/jpeg") for photo in PHOTOS[:7]] + [sha256_hex(PHOTOS[7])]
    for name, head in (("tiny-binary", None), ("tiny-one-class", tiny_bank())):
        await tiny_model(store, tmp_path, name, head=head, images=ids)
        await ActiveModels(bus).activate(name, "v1")
    return ids


async def test_a_verdict_is_explained_by_heat_and_training_images(bus: Bus, store: Store, tmp_path: Path, training: list[str]) -> None:
    async with serving(bus, store, tmp_path) as served, ClassifierClient(f"127.0.0.1:{served.port}", collection="tiny") as client:
        await served.serves("tiny-one-class", "v1")
        verdict = await client.classify(PHOTOS[0])
        answer = await client.explain(PHOTOS[0], nearest=3)
        by_id = await client.explain(training[0], nearest=3)
        one_class = await served.classifier.Explain(pb.ExplainRequest(content=PHOTOS[1], model="tiny-one-class"))
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await client.explain(PHOTOS[0], nearest=51)
    assert (answer.model, answer.version, answer.score, answer.positive) == ("tiny-binary", "v1", verdict.probability, verdict.positive)
    assert (answer.heat_map.height, answer.heat_map.width, answer.heat_map.method) == (4, 4, "grad-cam")
    assert len(answer.heat_map.values) == 16
    assert Image.open(io.BytesIO(answer.overlay)).size == (PREPROCESSING.size, PREPROCESSING.size)
    assert answer.nearest[0].image == training[0]
    assert answer.nearest[0].similarity == pytest.approx(1, abs=1e-5)
    assert len({n.image for n in answer.nearest}) == 3
    assert by_id.overlay == answer.overlay
    assert await store.exists(model_key("tiny-binary", "v1", EMBEDDINGS)), "what was seen of the training images is kept"
    # The bank of the one-class model: its rows name its training images, in their order, the erased one among them.
    assert one_class.heat_map.method == "feature-occlusion"
    assert len(one_class.nearest) == 5
    model = await served.hub.get("tiny-one-class")
    pooled = model.engine.run(PREPROCESSING.array_of_bytes(PHOTOS[1])[None], with_map=False).pooled
    alike = (unit(pooled) @ tiny_bank().bank.T)[0]
    assert [n.image for n in one_class.nearest] == [training[i] for i in np.argsort(-alike)[:5]]
    assert failed.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert "at most 50" in failed.value.details()


async def test_a_second_process_reads_what_the_first_has_seen(bus: Bus, store: Store, tmp_path: Path, training: list[str]) -> None:
    async with serving(bus, store, tmp_path) as served, ClassifierClient(f"127.0.0.1:{served.port}", collection="tiny") as client:
        first = await client.explain(PHOTOS[2])
    for image in training[:7]:
        await store.delete(f"images/{image[:2]}/{image}")
    async with serving(bus, store, tmp_path) as served, ClassifierClient(f"127.0.0.1:{served.port}", collection="tiny") as client:
        assert (await client.explain(PHOTOS[2])).nearest == first.nearest


async def known(facts: Facts, image: str) -> None:
    """An image that went the whole way in the collection ``tiny``."""
    where = {"collection": "tiny", "image": image}
    await facts.create(facts_pb2.Scraped(**where, width=120, height=100))
    await facts.create(facts_pb2.Sighted(**where, image_url=f"http://a/{image}"))
    await facts.put(facts_pb2.Hashed(**where, phash=int(image[:16], 16), algorithm="a/1", width=120, height=100, cause=1))
    await facts.put(facts_pb2.Deduplicated(**where, kind=facts_pb2.DUPLICATE_KIND_UNIQUE, kept=image, cause=1))
    await facts.put(facts_pb2.Screened(**where, people=True, score=0.9, threshold=0.5, cause=1))


def reviews(outcome: str) -> float:
    return REGISTRY.get_sample_value("cosmop_classifier_reviews_total", {"model": "tiny-binary", "outcome": outcome}) or 0.0


async def noted(outcome: str, before: float) -> None:
    async with asyncio.timeout(120):
        while reviews(outcome) == before:  # noqa: ASYNC110 - notes are worked off beside the answers
            await asyncio.sleep(0.02)


async def unsure(bus: Bus, store: Store, folder: Path) -> None:
    await tiny_model(store, folder, head=LinearHead(np.zeros(CHANNELS, np.float32), 0.1))
    await ActiveModels(bus).activate("tiny-binary", "v1")


async def test_what_the_model_is_unsure_of_is_labelled_first(bus: Bus, store: Store, tmp_path: Path) -> None:
    facts = Facts(bus)
    await unsure(bus, store, tmp_path)
    ids = sorted([await store.put_image(photo, "image/jpeg") for photo in PHOTOS[:4]])
    for image in ids:
        await known(facts, image)
    asked = ids[-1]
    before, stranger = reviews("queued"), reviews("unknown")
    async with serving(bus, store, tmp_path) as served:
        assert (await served.classifier.Classify(pb.ClassifyRequest(id=asked, collection="tiny"))).uncertain
        await noted("queued", before)
        assert (await served.classifier.Classify(pb.ClassifyRequest(content=PHOTOS[6], collection="tiny"))).uncertain
        await noted("unknown", stranger)
    db = database.connect(tmp_path / "console")
    follower = Follower(bus, db)
    following = asyncio.create_task(follower.run(asyncio.Event()))
    await follower.catch_up()
    queue = [row["image"] for row in labelling.queue(db, "tiny", "ann", "", 10)]
    counts = funnel.count(db, "tiny")
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)
    db.close()
    assert queue == [asked, *ids[:-1]]
    assert (counts.scraped, counts.people, counts.conserved) == (4, 4, True), "a stranger's image is stored nowhere unless asked for"
    assert not await store.exists(f"images/{sha256_hex(PHOTOS[6])[:2]}/{sha256_hex(PHOTOS[6])}")


async def test_where_the_setting_says_so_new_images_come_in(bus: Bus, store: Store, tmp_path: Path) -> None:
    facts = Facts(bus)
    await unsure(bus, store, tmp_path)
    image, gone = sha256_hex(PHOTOS[5]), sha256_hex(PHOTOS[6])
    await facts.put(facts_pb2.Erased(collection="tiny", image=gone))
    before, erased = reviews("queued"), reviews("erased")
    async with serving(bus, store, tmp_path, mode="all") as served:
        for photo in (PHOTOS[5], PHOTOS[5], PHOTOS[6]):
            await served.classifier.Classify(pb.ClassifyRequest(content=photo, collection="tiny"))
        await noted("erased", erased)
    assert reviews("queued") == before + 1
    assert await store.get_image(image) == PHOTOS[5]
    scraped = await facts.last(facts_pb2.Scraped, "tiny", image)
    assert (scraped.fact.media_type, scraped.fact.width, scraped.fact.sighting.source) == ("image/jpeg", 120, "endpoint")
    word = await facts.last(facts_pb2.Classified, "tiny", image)
    assert (word.fact.model, word.fact.uncertain, word.fact.threshold) == ("tiny-binary/v1", True, 0.5)
    assert await facts.last(facts_pb2.Scraped, "tiny", gone) is None
