"""Any message to either of the classifier's services: an answer or a status that says what was expected; never a crash, never a leak."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import gc
import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
from classifier_world import SIZE, drawing, serving, tiny_bank, tiny_model
from cosmop_common.bus import Bus
from cosmop_common.models_kv import ActiveModels
from cosmop_common.pb.cosmop.v1 import classifier_pb2
from cosmop_common.pb.inference import grpc_service_pb2 as pb
from cosmop_common.store import Store
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

PHOTO = drawing(1, positive=True)
#: What a caller's mistake may be answered with. INTERNAL and UNKNOWN would be ours.
HIS_FAULT = {"INVALID_ARGUMENT", "NOT_FOUND", "FAILED_PRECONDITION", "RESOURCE_EXHAUSTED", "DEADLINE_EXCEEDED"}
EXAMPLES = settings(max_examples=int(os.environ.get("FUZZ_EXAMPLES", "60")), deadline=None, suppress_health_check=list(HealthCheck))

names = st.one_of(st.sampled_from(["tiny-binary", "tiny-one-class", "tiny", "", "v1", "../../x", "a.b>*"]), st.text(max_size=20))
damaged = st.tuples(st.integers(0, len(PHOTO) - 1), st.binary(min_size=1, max_size=8)).map(lambda cut: PHOTO[: cut[0]] + cut[1] + PHOTO[cut[0] + len(cut[1]) :])
images = st.one_of(st.just(PHOTO), st.binary(max_size=200), damaged, st.integers(0, len(PHOTO)).map(lambda n: PHOTO[:n]))
ids = st.one_of(st.text(max_size=70), st.from_regex(r"[0-9a-f]{64}", fullmatch=True))


def either(kind: type[Any], **fields: SearchStrategy[Any]) -> SearchStrategy[Any]:
    """Messages of a kind with its image as bytes, by id, or missing."""
    picture = st.one_of(st.fixed_dictionaries({"content": images}), st.fixed_dictionaries({"id": ids}), st.just({}))
    return st.builds(lambda one, more: kind(**one, **more), picture, st.fixed_dictionaries({}, optional=fields))


asked = either(classifier_pb2.ClassifyRequest, model=names, version=names, collection=names, one_class=st.booleans(), tag=st.text(max_size=9))
explained = either(classifier_pb2.ExplainRequest, model=names, version=names, collection=names, nearest=st.integers(0, 2**32 - 1))

whole = st.integers(-(2**63), 2**63 - 1)
contents = st.fixed_dictionaries(
    {},
    optional={
        "bytes_contents": st.lists(images, max_size=3),
        "fp32_contents": st.lists(st.floats(width=32), max_size=8),
        "int64_contents": st.lists(whole, max_size=2),
        "bool_contents": st.lists(st.booleans(), max_size=2),
    },
).map(lambda fields: pb.InferTensorContents(**fields))
tensors = st.builds(
    lambda name, datatype, shape, held: pb.ModelInferRequest.InferInputTensor(name=name, datatype=datatype, shape=shape, contents=held),
    st.sampled_from(["image", "pixels", "", "x"]),
    st.sampled_from(["BYTES", "FP32", "FP16", "INT8", ""]),
    st.one_of(st.lists(whole, max_size=5), st.just([1]), st.just([2, 1]), st.just([1, 3, SIZE, SIZE]), st.just([-1]), st.just([2**40, 3, SIZE, SIZE])),
    contents,
)
framed = st.lists(images, max_size=3).map(lambda parts: b"".join(struct.pack("<I", len(p)) + p for p in parts))
raws = st.lists(st.one_of(st.binary(max_size=64), framed, st.just(bytes(4 * 3 * SIZE * SIZE)), st.just(b"\xff" * 4 * 3 * SIZE * SIZE)), max_size=2)
outputs = st.lists(st.sampled_from(["probability", "score", "boxes", ""]), max_size=2)
inferred = st.builds(
    lambda model, version, inputs, raw, wanted: pb.ModelInferRequest(
        model_name=model,
        model_version=version,
        inputs=inputs,
        raw_input_contents=raw,
        outputs=[pb.ModelInferRequest.InferRequestedOutputTensor(name=name) for name in wanted],
    ),
    names,
    names,
    st.lists(tensors, max_size=2),
    raws,
    outputs,
)


async def fuzz(call: Callable[..., Any], messages: SearchStrategy[Any]) -> None:
    """Sends messages to a method of a server in this event loop, from hypothesis' thread."""
    loop = asyncio.get_running_loop()

    async def ask(message: Any) -> None:
        (answer,) = await asyncio.gather(call(message, timeout=120), return_exceptions=True)
        if isinstance(answer, BaseException):
            assert isinstance(answer, grpc.aio.AioRpcError)
            assert answer.code().name in HIS_FAULT, f"{answer.code().name}: {answer.details()}"
            assert len(answer.details()) > 10, "the message says nothing"
            assert "Traceback" not in answer.details()

    @EXAMPLES
    @given(messages)
    def run(message: Any) -> None:
        asyncio.run_coroutine_threadsafe(ask(message), loop).result(180)

    await asyncio.to_thread(run)


def resident() -> int:
    """Bytes that this process holds in memory, less what its allocator only keeps in reserve (the more, the more cores there are)."""
    gc.collect()
    with contextlib.suppress(AttributeError, OSError):  # another C library than glibc
        ctypes.CDLL(None).malloc_trim(0)
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


async def test_whatever_is_sent_is_answered_with_sense(bus: Bus, store: Store, tmp_path: Path) -> None:
    for name, head in (("tiny-binary", None), ("tiny-one-class", tiny_bank())):
        await tiny_model(store, tmp_path, name, head=head)
        await ActiveModels(bus).activate(name, "v1")
    async with serving(bus, store, tmp_path) as served:
        await served.serves("tiny-one-class", "v1")
        await fuzz(served.classifier.Classify, asked)
        await fuzz(served.classifier.Explain, explained)
        await fuzz(served.inference.ModelInfer, inferred)
        await fuzz(served.inference.ModelMetadata, st.builds(pb.ModelMetadataRequest, name=names, version=names))
        await fuzz(served.classifier.GetModel, st.builds(classifier_pb2.GetModelRequest, name=names, version=names))
        await fuzz(served.classifier.ActivateModel, st.builds(classifier_pb2.ActivateModelRequest, name=names, version=st.sampled_from(["", "v9", "..", "v1"])))
        # It still works, and holds nothing of what it was sent.
        answer = await served.classifier.Classify(classifier_pb2.ClassifyRequest(content=PHOTO, collection="tiny"))
        assert answer.version == "v1"
        model = await served.hub.get("tiny-binary")
        assert model.engine.pending == 0


async def test_bad_images_leave_no_memory_behind(bus: Bus, store: Store, tmp_path: Path) -> None:
    await tiny_model(store, tmp_path)
    await ActiveModels(bus).activate("tiny-binary", "v1")
    junk = [classifier_pb2.ClassifyRequest(content=bytes([i % 251]) * 200_000, collection="tiny") for i in range(20)]

    async def refuse(times: int) -> None:
        for _ in range(times):
            answers = await asyncio.gather(*(served.classifier.Classify(message) for message in junk), return_exceptions=True)
            assert {error.code() for error in answers} == {grpc.StatusCode.INVALID_ARGUMENT}

    async with serving(bus, store, tmp_path) as served:
        # Until the allocator has what it needs for twenty at once.
        await refuse(10)
        before, tasks = resident(), len(asyncio.all_tasks())
        await refuse(20)
        # 400 messages of 200 kB: kept, they would be 80 MB.
        assert resident() - before < 40_000_000
        async with asyncio.timeout(60):
            while len(asyncio.all_tasks()) > tasks + 2:  # noqa: ASYNC110 - the last calls may be on their way out
                await asyncio.sleep(0.02)


async def test_a_message_over_the_limit_is_refused_by_its_size(bus: Bus, store: Store, tmp_path: Path) -> None:
    await tiny_model(store, tmp_path)
    await ActiveModels(bus).activate("tiny-binary", "v1")
    async with serving(bus, store, tmp_path, max_message_bytes=4_000_000) as served:
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await served.classifier.Classify(classifier_pb2.ClassifyRequest(content=b"x" * 5_000_000, collection="tiny"))
        assert failed.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "larger than max" in failed.value.details()
        assert (await served.classifier.Classify(classifier_pb2.ClassifyRequest(content=PHOTO, collection="tiny"))).model == "tiny-binary"
