"""``cosmop.v1.HumanDetector`` over a real channel."""

from __future__ import annotations

import asyncio
import hashlib
import io
from collections.abc import AsyncIterator

import grpc
import numpy as np
import pytest
from cosmop_common.bus import Bus
from cosmop_common.endpoints import channel
from cosmop_common.grpc_server import GrpcServer
from cosmop_common.models_kv import ActiveModels
from cosmop_common.names import model_key
from cosmop_common.pb.cosmop.v1 import human_detector_pb2 as pb
from cosmop_common.pb.cosmop.v1 import human_detector_pb2_grpc, runs_pb2
from cosmop_common.runs import Runs
from cosmop_common.settings import ConnectionSettings, ServiceSettings
from cosmop_common.store import Store
from cosmop_human_detector.heads import Head
from cosmop_human_detector.models import Models
from cosmop_human_detector.registry import HEAD_FILE, register, shipped
from cosmop_human_detector.service import HumanDetectorServicer
from PIL import Image


def picture(colour: str) -> bytes:
    sink = io.BytesIO()
    Image.new("RGB", (120, 90), colour).save(sink, "JPEG")
    return sink.getvalue()


@pytest.fixture
async def models(bus: Bus, store: Store) -> AsyncIterator[Models]:
    models = Models(store, ActiveModels(bus), batch=8, seconds=0.005)
    await models.set_default(*shipped())
    yield models
    await models.close()


@pytest.fixture
async def stub(bus: Bus, store: Store, settings: ConnectionSettings, models: Models) -> AsyncIterator[human_detector_pb2_grpc.HumanDetectorAsyncStub]:
    server = GrpcServer(ServiceSettings(grpc_port=0))
    human_detector_pb2_grpc.add_HumanDetectorServicer_to_server(HumanDetectorServicer(bus, Runs(bus), store, models), server.server)
    port = await server.start()
    async with channel(f"127.0.0.1:{port}") as connection:
        yield human_detector_pb2_grpc.HumanDetectorStub(connection)
    await server.stop()


async def test_detect_by_content_and_by_id_agree(stub, store: Store) -> None:
    data = picture("teal")
    image = await store.put_image(data, "image/jpeg")
    by_content = await stub.Detect(pb.DetectRequest(content=data))
    by_id = await stub.Detect(pb.DetectRequest(id=image))
    assert by_content == by_id
    assert 0 <= by_content.score <= 1
    assert by_content.people == (by_content.score >= by_content.threshold)
    assert by_content.model == f"human/{shipped()[0].version}"


async def test_a_stream_is_answered_in_order(stub) -> None:
    colours = ["red", "green", "blue", "white", "black", "gray"] * 4
    alone = {colour: (await stub.Detect(pb.DetectRequest(content=picture(colour)))).score for colour in set(colours)}

    async def requests() -> AsyncIterator[pb.DetectRequest]:
        for colour in colours:
            yield pb.DetectRequest(content=picture(colour))

    answers = [answer.score async for answer in stub.DetectStream(requests())]
    assert answers == pytest.approx([alone[colour] for colour in colours], abs=1e-4)
    assert len(set(alone.values())) > 1


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({}, grpc.StatusCode.INVALID_ARGUMENT),
        ({"content": b"<html>"}, grpc.StatusCode.INVALID_ARGUMENT),
        ({"id": "0" * 64}, grpc.StatusCode.NOT_FOUND),
    ],
)
async def test_what_cannot_be_screened_has_its_status(stub, fields: dict, code: grpc.StatusCode) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.Detect(pb.DetectRequest(**fields))
    assert caught.value.code() == code


async def test_activation_lists_and_rolls_back(stub, store: Store) -> None:
    card, files = shipped()
    good = card.model_copy(update={"version": "good", "threshold": 0.123})
    await register(store, good, files)
    await register(store, card.model_copy(update={"version": "bad"}), {HEAD_FILE: b"damaged"})
    answer = await stub.ActivateModel(pb.ActivateDetectorRequest(name="human", version="good"))
    assert (answer.active, answer.threshold) == (True, 0.123)

    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.ActivateModel(pb.ActivateDetectorRequest(name="human", version="bad"))
    assert caught.value.code() == grpc.StatusCode.DATA_LOSS
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.ActivateModel(pb.ActivateDetectorRequest(name="human", version="none"))
    assert caught.value.code() == grpc.StatusCode.NOT_FOUND

    listed = {m.version: m.active for m in (await stub.ListModels(pb.ListDetectorsRequest())).models}
    assert listed == {"good": True, "bad": False, card.version: False}
    assert (await stub.Detect(pb.DetectRequest(content=picture("red")))).model == "human/good"
    assert await store.exists(model_key("human", "good", HEAD_FILE))


async def test_versions_that_cannot_work_are_refused_and_the_list_stays_whole(stub, store: Store) -> None:
    card, files = shipped()
    narrow = Head(Head.from_bytes(files[HEAD_FILE]).shape, np.ones(5, np.float32), 0.0).to_bytes()
    await register(store, card.model_copy(update={"version": "narrow", "files": {HEAD_FILE: hashlib.sha256(narrow).hexdigest()}}), {HEAD_FILE: narrow})
    await register(store, card.model_copy(update={"version": "future", "details": {"backend": "telepathy"}}), files)
    await store.put(model_key("human", "torn", "card.json"), b'{"name": "human"')
    codes = {}
    for version in ("narrow", "future", "torn"):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.ActivateModel(pb.ActivateDetectorRequest(name="human", version=version))
        codes[version] = caught.value.code()
        assert "activate another version" in (caught.value.details() or "") or "update the service" in (caught.value.details() or "")
    assert codes == {"narrow": grpc.StatusCode.FAILED_PRECONDITION, "future": grpc.StatusCode.DATA_LOSS, "torn": grpc.StatusCode.DATA_LOSS}
    listed = {m.version: m.active for m in (await stub.ListModels(pb.ListDetectorsRequest())).models}
    assert listed == {card.version: True, "narrow": False, "future": False}


async def test_a_version_is_activated_under_load_and_every_answer_is_whole(stub, store: Store) -> None:
    card, files = shipped()
    await register(store, card.model_copy(update={"version": "next", "threshold": 0.001}), files)
    begun = asyncio.Event()

    async def requests() -> AsyncIterator[pb.DetectRequest]:
        for number in range(60):
            if number == 10:
                begun.set()
            yield pb.DetectRequest(content=picture("teal"))

    async def activate() -> None:
        await begun.wait()
        await stub.ActivateModel(pb.ActivateDetectorRequest(name="human", version="next"))

    activation = asyncio.create_task(activate())
    answers = [answer async for answer in stub.DetectStream(requests())]
    await activation
    assert len(answers) == 60
    assert {(a.model, a.threshold) for a in answers} <= {(f"human/{card.version}", card.threshold), ("human/next", 0.001)}
    assert (await stub.Detect(pb.DetectRequest(content=picture("teal")))).model == "human/next"


async def test_a_stream_answers_what_came_before_a_bad_image_and_the_next_stream_works(stub) -> None:
    async def requests(bad: bool) -> AsyncIterator[pb.DetectRequest]:
        for number in range(4):
            yield pb.DetectRequest(content=b"<html>" if bad and number == 2 else picture("teal"))

    answers = []

    async def collect() -> None:
        async for answer in stub.DetectStream(requests(bad=True)):
            answers.append(answer)

    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await collect()
    assert (len(answers), caught.value.code()) == (2, grpc.StatusCode.INVALID_ARGUMENT)
    assert len([answer async for answer in stub.DetectStream(requests(bad=False))]) == 4


async def test_train_queues_one_job_for_one_run(stub, bus: Bus) -> None:
    request = pb.TrainDetectorRequest(collection="c", run="train-x", train=runs_pb2.TrainHumanDetectorJob(data=["/photos"]))
    first, again = await stub.Train(request), await stub.Train(request)
    assert first.id == again.id == "train-x"
    assert first.state == runs_pb2.RUN_STATE_QUEUED
    assert (await bus.js.stream_info("JOBS")).state.messages == 1


async def test_train_without_data_is_refused(stub) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.Train(pb.TrainDetectorRequest(collection="c"))
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
