"""``cosmop.v1.Classifier`` over a real channel: answers, order, bad input, promotion and roll-back."""

from __future__ import annotations

import asyncio
import io
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import numpy as np
import pytest
from classifier_world import CHANNELS, Serving, drawing, serving, tiny_bank, tiny_model, tiny_network
from cosmop_classifier.client import ClassifierClient
from cosmop_classifier.heads import LinearHead
from cosmop_common.bus import Bus
from cosmop_common.models_kv import ActiveModels
from cosmop_common.names import model_key
from cosmop_common.pb.cosmop.v1 import classifier_pb2 as pb
from cosmop_common.pb.cosmop.v1 import runs_pb2
from cosmop_common.store import Store
from PIL import Image
from prometheus_client import REGISTRY

YES, NO = (LinearHead(np.zeros(CHANNELS, np.float32), bias) for bias in (3.0, -3.0))
PHOTO = drawing(1, positive=True)


async def active(bus: Bus, store: Store, folder: Path, name: str = "tiny-binary", version: str = "v1", **how) -> None:
    await tiny_model(store, folder, name, version, **how)
    await ActiveModels(bus).activate(name, version)


async def test_an_answer_says_what_and_by_whom(bus: Bus, store: Store, tmp_path: Path) -> None:
    await active(bus, store, tmp_path, head=YES)
    await active(bus, store, tmp_path, "tiny-one-class", head=tiny_bank())
    image = await store.put_image(PHOTO, "image/jpeg")
    async with serving(bus, store, tmp_path) as served, ClassifierClient(f"127.0.0.1:{served.port}", collection="tiny") as client:
        await served.serves("tiny-one-class", "v1")
        by_bytes, by_id = await client.classify(PHOTO, one_class=True), await client.classify(image)
        models = await client.models()
    assert by_bytes.probability == pytest.approx(1 / (1 + np.exp(-3.0)))
    assert (by_bytes.label, by_bytes.positive, by_bytes.uncertain, by_bytes.model, by_bytes.version) == ("disc", True, False, "tiny-binary", "v1")
    assert by_bytes.one_class.model == "tiny-one-class"
    assert by_bytes.one_class.positive == (by_bytes.one_class.score >= by_bytes.one_class.threshold)
    assert by_id.probability == by_bytes.probability
    assert not by_id.HasField("one_class")
    assert [(m.name, m.kind, m.active) for m in models] == [("tiny-binary", "binary", True), ("tiny-one-class", "one_class", True)]


async def test_inside_the_band_a_person_should_look(bus: Bus, store: Store, tmp_path: Path) -> None:
    await active(bus, store, tmp_path, head=LinearHead(np.zeros(CHANNELS, np.float32), 0.1))
    async with serving(bus, store, tmp_path) as served:
        assert (await served.classifier.Classify(pb.ClassifyRequest(content=PHOTO, collection="tiny"))).uncertain


async def test_a_stream_answers_in_order_and_survives_bad_images(bus: Bus, store: Store, tmp_path: Path) -> None:
    await active(bus, store, tmp_path)
    images = [b"no image" if i % 7 == 3 else drawing(i, i % 2 == 0) for i in range(60)]
    async with serving(bus, store, tmp_path, max_pending=4) as served:
        requests = (pb.ClassifyRequest(content=data, collection="tiny", tag=str(i)) for i, data in enumerate(images))
        answers = [answer async for answer in served.classifier.ClassifyStream(requests)]
        alone = [await served.classifier.Classify(pb.ClassifyRequest(content=images[i], collection="tiny")) for i in (0, 1, 2)]
    assert [a.tag for a in answers] == [str(i) for i in range(60)]
    assert [i for i, a in enumerate(answers) if a.error] == [i for i in range(60) if i % 7 == 3]
    assert answers[3].error.startswith("INVALID_ARGUMENT: not_an_image: the bytes are no image")
    assert [a.probability for a in answers[:3]] == pytest.approx([a.probability for a in alone])


def png(width: int, height: int) -> bytes:
    sink = io.BytesIO()
    Image.new("1", (width, height)).save(sink, "PNG")
    return sink.getvalue()


@pytest.mark.parametrize(
    ("request_fields", "code", "message"),
    [
        ({"collection": "tiny"}, grpc.StatusCode.INVALID_ARGUMENT, "the request holds no image: set content"),
        ({"collection": "tiny", "content": b""}, grpc.StatusCode.INVALID_ARGUMENT, "the request holds no image"),
        ({"content": PHOTO}, grpc.StatusCode.INVALID_ARGUMENT, "neither model nor collection is set"),
        ({"collection": "tiny", "content": b"<!doctype html><p>"}, grpc.StatusCode.INVALID_ARGUMENT, "HTML page"),
        ({"collection": "tiny", "content": PHOTO[:300]}, grpc.StatusCode.INVALID_ARGUMENT, "corrupt"),
        ({"collection": "tiny", "content": png(11_000, 11_000)}, grpc.StatusCode.INVALID_ARGUMENT, "at most 100,000,000 are taken"),
        ({"collection": "tiny", "id": "0" * 64}, grpc.StatusCode.NOT_FOUND, "is not in the store"),
        ({"collection": "tiny", "id": "../secret"}, grpc.StatusCode.INVALID_ARGUMENT, "'../secret' is no image's id"),
        ({"collection": "tiny", "id": ""}, grpc.StatusCode.INVALID_ARGUMENT, "'' is no image's id"),
        ({"model": "../x", "content": PHOTO}, grpc.StatusCode.INVALID_ARGUMENT, "'../x' is no name of a model"),
        ({"model": "tiny-binary", "version": "a/b", "content": PHOTO}, grpc.StatusCode.INVALID_ARGUMENT, "'a/b' is no name"),
        ({"collection": "other", "content": PHOTO}, grpc.StatusCode.NOT_FOUND, "there is no model 'other-binary'; active are tiny-binary"),
        ({"model": "tiny-binary", "version": "v9", "content": PHOTO}, grpc.StatusCode.NOT_FOUND, "no version 'v9' of model 'tiny-binary'"),
        ({"model": "idle-binary", "content": PHOTO}, grpc.StatusCode.FAILED_PRECONDITION, "no version of model 'idle-binary' is active"),
        ({"collection": "tiny", "content": PHOTO, "one_class": True}, grpc.StatusCode.NOT_FOUND, "tiny-one-class"),
        ({"model": "lone-one-class", "version": "v1", "content": PHOTO}, grpc.StatusCode.INVALID_ARGUMENT, "is a one-class model"),
    ],
)
async def test_what_is_wrong_has_its_status(bus: Bus, store: Store, tmp_path: Path, request_fields, code, message) -> None:
    await active(bus, store, tmp_path)
    await tiny_model(store, tmp_path, "idle-binary")
    await tiny_model(store, tmp_path, "lone-one-class", head=tiny_bank())
    async with serving(bus, store, tmp_path) as served:
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await served.classifier.Classify(pb.ClassifyRequest(**request_fields))
        assert (await served.classifier.Classify(pb.ClassifyRequest(content=PHOTO, collection="tiny"))).version == "v1", "and it goes on"
    assert failed.value.code() == code
    assert message in failed.value.details()


@asynccontextmanager
async def held(served: Serving, name: str) -> AsyncIterator[threading.Event]:
    """The network of a model answers nothing before the event is set."""
    batcher, free = (await served.hub.get(name)).engine._batcher, threading.Event()
    run = batcher._run

    def run_when_free(batch: Sequence[object]) -> Sequence[object]:
        assert free.wait(120)
        return run(batch)

    batcher._run = run_when_free
    yield free
    free.set()


async def test_a_full_queue_says_when_to_come_again(bus: Bus, store: Store, tmp_path: Path) -> None:
    await active(bus, store, tmp_path)
    async with serving(bus, store, tmp_path, max_pending=1) as served, held(served, "tiny-binary") as free:

        async def ask() -> object:
            try:
                return await served.classifier.Classify(pb.ClassifyRequest(content=PHOTO, collection="tiny"))
            except grpc.aio.AioRpcError as error:
                # The network answers once somebody was refused, so that somebody is, on the fastest machine as well.
                free.set()
                return error

        answers = await asyncio.gather(*(ask() for _ in range(30)))
    refused = [a for a in answers if isinstance(a, grpc.aio.AioRpcError)]
    assert refused
    assert len(refused) < len(answers)
    assert {a.code() for a in refused} == {grpc.StatusCode.RESOURCE_EXHAUSTED}
    assert int(dict(refused[0].trailing_metadata())["grpc-retry-pushback-ms"]) >= 1


async def test_an_expired_deadline_is_its_own_status(bus: Bus, store: Store, tmp_path: Path) -> None:
    await active(bus, store, tmp_path)
    async with serving(bus, store, tmp_path) as served:
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await served.classifier.Classify(pb.ClassifyRequest(content=PHOTO, collection="tiny"), timeout=0.0001)
    assert failed.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED


async def test_promotion_under_load_loses_no_request_and_mixes_no_answer(bus: Bus, store: Store, tmp_path: Path) -> None:
    await active(bus, store, tmp_path, version="v1", head=YES)
    await tiny_model(store, tmp_path, version="v2", head=NO, network=tiny_network(1))
    expected = {"v1": 1 / (1 + np.exp(-3.0)), "v2": 1 / (1 + np.exp(3.0))}
    async with serving(bus, store, tmp_path) as served:
        answers, latest, stop = [], [""] * 8, asyncio.Event()

        async def load(client: int) -> None:
            while not stop.is_set():
                answers.append(await served.classifier.Classify(pb.ClassifyRequest(content=PHOTO, collection="tiny")))
                latest[client] = answers[-1].version

        async def all_are_answered_by(version: str) -> None:
            async with asyncio.timeout(120):
                while set(latest) != {version}:  # noqa: ASYNC110 - eight of them
                    await asyncio.sleep(0.01)

        clients = [asyncio.create_task(load(client)) for client in range(8)]
        await all_are_answered_by("v1")
        for version in ("v2", "v1", "v2"):
            model = await served.classifier.ActivateModel(pb.ActivateModelRequest(name="tiny-binary", version=version))
            assert model.active
            await all_are_answered_by(version)
        stop.set()
        await asyncio.gather(*clients)
    assert {a.version for a in answers} == {"v1", "v2"}
    assert all(a.probability == pytest.approx(expected[a.version]) for a in answers)
    assert answers[-1].version == "v2"


async def test_a_version_made_active_elsewhere_is_served_here(bus: Bus, store: Store, tmp_path: Path) -> None:
    await active(bus, store, tmp_path, version="v1", head=YES)
    await tiny_model(store, tmp_path, version="v2", head=NO)
    async with serving(bus, store, tmp_path) as served:
        await ActiveModels(bus).activate("tiny-binary", "v2")
        await served.serves("tiny-binary", "v2")
        pinned = await served.classifier.Classify(pb.ClassifyRequest(content=PHOTO, model="tiny-binary", version="v1"))
    assert (pinned.version, pinned.positive) == ("v1", True)


async def test_a_version_that_fails_its_smoke_test_never_serves(bus: Bus, store: Store, tmp_path: Path) -> None:
    await active(bus, store, tmp_path, version="v1", head=YES)
    await tiny_model(store, tmp_path, version="v2", head=NO, smoke_error=0.1)
    async with serving(bus, store, tmp_path) as served:
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await served.classifier.ActivateModel(pb.ActivateModelRequest(name="tiny-binary", version="v2"))
        assert failed.value.code() == grpc.StatusCode.FAILED_PRECONDITION
        assert "where its card expects" in failed.value.details()
        assert await ActiveModels(bus).get("tiny-binary") == "v1"
        await ActiveModels(bus).activate("tiny-binary", "v2")
        async with asyncio.timeout(120):
            while await ActiveModels(bus).get("tiny-binary") != "v1":  # noqa: ASYNC110 - taken back by the service
                await asyncio.sleep(0.02)
        assert (await served.classifier.Classify(pb.ClassifyRequest(content=PHOTO, collection="tiny"))).version == "v1"


async def test_a_changed_file_never_serves(bus: Bus, store: Store, tmp_path: Path) -> None:
    await active(bus, store, tmp_path, version="v1")
    card = await tiny_model(store, tmp_path, version="v2")
    name = next(n for n in card.files if n.startswith("head"))
    await store.put(model_key("tiny-binary", "v2", name), NO.to_bytes())
    async with serving(bus, store, tmp_path) as served:
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await served.classifier.ActivateModel(pb.ActivateModelRequest(name="tiny-binary", version="v2"))
    assert failed.value.code() == grpc.StatusCode.DATA_LOSS
    assert "is not the file that was registered" in failed.value.details()


async def test_models_of_other_services_are_left_alone(bus: Bus, store: Store, tmp_path: Path) -> None:
    await ActiveModels(bus).activate("human", "v1")
    await active(bus, store, tmp_path)
    async with serving(bus, store, tmp_path) as served:
        assert served.hub.active_versions() == {"tiny-binary": "v1"}
    assert await ActiveModels(bus).get("human") == "v1"


async def test_a_training_job_is_queued_or_refused_at_once(bus: Bus, store: Store, tmp_path: Path) -> None:
    async with serving(bus, store, tmp_path) as served:
        job = runs_pb2.TrainClassifierJob(dataset="tiny/v1", kind="binary", network="efficientnet_lite0")
        run = await served.classifier.Train(pb.TrainRequest(train=job, run="by-hand"))
        assert (run.id, run.kind, run.collection, run.state) == ("by-hand", "classifier.train_classifier", "tiny", runs_pb2.RUN_STATE_QUEUED)
        job.kind = "ternary"
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await served.classifier.Train(pb.TrainRequest(train=job))
    assert failed.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert "kind 'ternary'" in failed.value.details()


async def test_a_card_can_be_asked_for(bus: Bus, store: Store, tmp_path: Path) -> None:
    await active(bus, store, tmp_path)
    await tiny_model(store, tmp_path, version="v2")
    async with serving(bus, store, tmp_path) as served:
        newest = await served.classifier.GetModel(pb.GetModelRequest(name="tiny-binary"))
        other = await served.classifier.GetModel(pb.GetModelRequest(name="tiny-binary", version="v2"))
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await served.classifier.GetModel(pb.GetModelRequest(name="tiny-binary", version="v3"))
    assert (newest.version, newest.active, other.version, other.active) == ("v1", True, "v2", False)
    assert '"positive":"disc"' in newest.card
    assert failed.value.code() == grpc.StatusCode.NOT_FOUND


async def test_each_model_has_its_own_metrics(bus: Bus, store: Store, tmp_path: Path) -> None:
    def seen(metric: str, model: str, **labels: str) -> float:
        return REGISTRY.get_sample_value(f"cosmop_classifier_{metric}", {"model": model} | labels) or 0.0

    await active(bus, store, tmp_path, "told-binary", head=YES)
    await active(bus, store, tmp_path, "told-one-class", head=tiny_bank())
    async with serving(bus, store, tmp_path) as served:
        await served.serves("told-one-class", "v1")
        await served.classifier.Classify(pb.ClassifyRequest(content=PHOTO, collection="told", one_class=True))
        await served.classifier.Classify(pb.ClassifyRequest(content=PHOTO, collection="told"))
        with pytest.raises(grpc.aio.AioRpcError):
            await served.classifier.Classify(pb.ClassifyRequest(content=b"no image", collection="told"))
    for model, answered in (("told-binary", 2), ("told-one-class", 1)):
        assert seen("images_total", model, outcome="ok") == answered
        assert seen("image_seconds_count", model) == answered
        assert seen("batch_images_count", model) == answered
        assert seen("waiting", model) == 0
        assert seen("active", model, version="v1") == 1
    assert seen("images_total", "told-binary", outcome="invalid") == 1
    assert seen("images_total", "told-one-class", outcome="invalid") == 0


async def test_the_typed_client_comes_again_when_the_server_said(bus: Bus, store: Store, tmp_path: Path) -> None:
    """Eight callers at once for a queue of four that stands still until somebody was refused: all are answered in the end."""

    def refused() -> float:
        return REGISTRY.get_sample_value("cosmop_classifier_images_total", {"model": "again-binary", "outcome": "rejected"}) or 0.0

    await active(bus, store, tmp_path, "again-binary", head=YES)
    before = refused()
    full = serving(bus, store, tmp_path, max_pending=4)
    async with full as served, held(served, "again-binary") as free, ClassifierClient(f"127.0.0.1:{served.port}", collection="again") as client:
        asking = asyncio.gather(*(client.classify(PHOTO) for _ in range(8)))
        async with asyncio.timeout(120):
            while refused() == before:  # noqa: ASYNC110 - the metric does not tell
                await asyncio.sleep(0.01)
        free.set()
        answers = await asking
    assert [answer.version for answer in answers] == ["v1"] * 8
