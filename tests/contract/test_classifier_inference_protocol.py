"""The Open Inference Protocol over a real channel: all six calls, health and reflection beside them, bad tensors."""

from __future__ import annotations

import asyncio
from pathlib import Path

import grpc
import numpy as np
import pytest
from classifier_world import PREPROCESSING, SIZE, drawing, serving, tiny_bank, tiny_model
from cosmop_classifier.oip import strings_to_raw
from cosmop_common.bus import Bus
from cosmop_common.models_kv import ActiveModels
from cosmop_common.pb.cosmop.v1 import classifier_pb2
from cosmop_common.pb.inference import grpc_service_pb2 as pb
from cosmop_common.store import Store
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

Tensor = pb.ModelInferRequest.InferInputTensor
PHOTOS = [drawing(i, i % 2 == 0) for i in range(3)]


@pytest.fixture
async def served(bus: Bus, store: Store, tmp_path: Path):
    for name, head in (("tiny-binary", None), ("tiny-one-class", tiny_bank())):
        await tiny_model(store, tmp_path, name, head=head)
        await ActiveModels(bus).activate(name, "v1")
    async with serving(bus, store, tmp_path) as parts:
        yield parts


async def test_the_server_tells_of_itself(served) -> None:
    assert (await served.inference.ServerLive(pb.ServerLiveRequest())).live
    assert (await served.inference.ServerReady(pb.ServerReadyRequest())).ready
    metadata = await served.inference.ServerMetadata(pb.ServerMetadataRequest())
    assert (metadata.name, metadata.version, list(metadata.extensions)) == ("cosmop-classifier", "0.1.0", [])
    assert (await served.inference.ModelReady(pb.ModelReadyRequest(name="tiny-binary"))).ready
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await served.inference.ModelReady(pb.ModelReadyRequest(name="nobody"))
    assert failed.value.code() == grpc.StatusCode.NOT_FOUND


async def test_a_model_tells_what_it_takes_and_gives(served) -> None:
    metadata = await served.inference.ModelMetadata(pb.ModelMetadataRequest(name="tiny-binary"))
    assert [(i.name, i.datatype, list(i.shape)) for i in metadata.inputs] == [("image", "BYTES", [-1]), ("pixels", "FP32", [-1, 3, SIZE, SIZE])]
    assert [(o.name, o.datatype) for o in metadata.outputs] == [("probability", "FP64"), ("positive", "BOOL"), ("label", "BYTES"), ("uncertain", "BOOL")]
    other = await served.inference.ModelMetadata(pb.ModelMetadataRequest(name="tiny-one-class", version="v1"))
    assert [o.name for o in other.outputs] == ["score", "positive"]


async def test_all_ways_of_asking_get_the_same_answer(served) -> None:
    plain = [await served.classifier.Classify(classifier_pb2.ClassifyRequest(content=p, collection="tiny")) for p in PHOTOS]
    tensor = Tensor(name="image", datatype="BYTES", shape=[3])
    raw = await served.inference.ModelInfer(pb.ModelInferRequest(model_name="tiny-binary", inputs=[tensor], raw_input_contents=[strings_to_raw(PHOTOS)]))
    tensor.contents.bytes_contents.extend(PHOTOS)
    typed = await served.inference.ModelInfer(pb.ModelInferRequest(model_name="tiny-binary", id="9", inputs=[tensor]))
    pixels = np.stack([PREPROCESSING.array_of_bytes(p) for p in PHOTOS])
    given = Tensor(name="pixels", datatype="FP32", shape=pixels.shape)
    arrays = await served.inference.ModelInfer(pb.ModelInferRequest(model_name="tiny-binary", inputs=[given], raw_input_contents=[pixels.tobytes()]))
    expected = [a.probability for a in plain]
    assert np.frombuffer(raw.raw_output_contents[0], "<f8") == pytest.approx(expected)
    assert np.frombuffer(arrays.raw_output_contents[0], "<f8") == pytest.approx(expected)
    assert list(typed.outputs[0].contents.fp64_contents) == pytest.approx(expected)
    assert [o.name for o in typed.outputs] == ["probability", "positive", "label", "uncertain"]
    assert list(typed.outputs[2].contents.bytes_contents) == [a.label.encode() for a in plain]
    assert (typed.id, typed.model_name, typed.model_version) == ("9", "tiny-binary", "v1")


async def test_a_one_class_model_gives_scores(served) -> None:
    asked = pb.ModelInferRequest(
        model_name="tiny-one-class", inputs=[Tensor(name="image", datatype="BYTES", shape=[3])], raw_input_contents=[strings_to_raw(PHOTOS)]
    )
    asked.outputs.add(name="score")
    answer = await served.inference.ModelInfer(asked)
    whole = await served.classifier.Classify(classifier_pb2.ClassifyRequest(content=PHOTOS[0], collection="tiny", one_class=True))
    assert [o.name for o in answer.outputs] == ["score"]
    assert np.frombuffer(answer.raw_output_contents[0], "<f8")[0] == pytest.approx(whole.one_class.score)


@pytest.mark.parametrize(
    ("fields", "tensor", "raw", "code", "message"),
    [
        ({}, {"shape": [1, 3, 8, 8], "datatype": "FP32", "name": "pixels"}, [b"1"], "INVALID_ARGUMENT", f"expected [n, 3, {SIZE}, {SIZE}]"),
        ({}, {"shape": [1], "datatype": "INT8", "name": "image"}, [b"1"], "INVALID_ARGUMENT", "of type INT8; expected one input"),
        ({}, {"shape": [9], "datatype": "BYTES", "name": "image"}, [b"1"], "INVALID_ARGUMENT", "holds 9 images; expected 1 to 8"),
        (
            {},
            {"shape": [1], "datatype": "BYTES", "name": "image", "contents": pb.InferTensorContents(bytes_contents=[b"x"])},
            [b"1"],
            "INVALID_ARGUMENT",
            "use one of the two",
        ),
        ({}, {"shape": [1], "datatype": "BYTES", "name": "image"}, [strings_to_raw([b"no image"])], "INVALID_ARGUMENT", "the bytes are no image"),
        (
            {"outputs": ["boxes"]},
            {"shape": [1], "datatype": "BYTES", "name": "image"},
            [strings_to_raw(PHOTOS[:1])],
            "INVALID_ARGUMENT",
            "output 'boxes' does not exist",
        ),
        (
            {"model_name": "nobody"},
            {"shape": [1], "datatype": "BYTES", "name": "image"},
            [strings_to_raw(PHOTOS[:1])],
            "NOT_FOUND",
            "there is no model 'nobody'",
        ),
        ({"model_version": "v9"}, {"shape": [1], "datatype": "BYTES", "name": "image"}, [strings_to_raw(PHOTOS[:1])], "NOT_FOUND", "no version 'v9'"),
        ({"model_name": ""}, {"shape": [1], "datatype": "BYTES", "name": "image"}, [strings_to_raw(PHOTOS[:1])], "INVALID_ARGUMENT", "no model is named"),
    ],
)
async def test_what_is_wrong_has_its_status(served, fields, tensor, raw, code, message) -> None:
    fields = {"model_name": "tiny-binary"} | fields
    fields["outputs"] = [pb.ModelInferRequest.InferRequestedOutputTensor(name=n) for n in fields.get("outputs", [])]
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await served.inference.ModelInfer(pb.ModelInferRequest(inputs=[Tensor(**tensor)], raw_input_contents=raw, **fields))
    assert failed.value.code().name == code
    assert message in failed.value.details()


async def test_reflection_names_every_service_and_knows_its_messages(served) -> None:
    def look() -> tuple[set[str], list[str]]:
        with grpc.insecure_channel(f"127.0.0.1:{served.port}", options=[("grpc.enable_http_proxy", 0)]) as channel:
            database = ProtoReflectionDescriptorDatabase(channel)
            file = database.FindFileContainingSymbol("inference.GRPCInferenceService")
            return set(database.get_services()), [m.name for m in file.service[0].method]

    services, methods = await asyncio.to_thread(look)
    assert {"cosmop.v1.Classifier", "inference.GRPCInferenceService", "grpc.health.v1.Health", "grpc.reflection.v1alpha.ServerReflection"} <= services
    assert set(methods) == {"ServerLive", "ServerReady", "ModelReady", "ServerMetadata", "ModelMetadata", "ModelInfer"}
