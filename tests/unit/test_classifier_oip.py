"""Tensors of the Open Inference Protocol: what is read is what was written, and what is wrong is said."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from cosmop_classifier import oip
from cosmop_common.pb.inference import grpc_service_pb2 as pb
from hypothesis import given
from hypothesis import strategies as st

Tensor = pb.ModelInferRequest.InferInputTensor
Contents = pb.InferTensorContents


def request(*tensors: Tensor, raw: list[bytes] | None = None, outputs: tuple[str, ...] = ()) -> pb.ModelInferRequest:
    asked = [pb.ModelInferRequest.InferRequestedOutputTensor(name=name) for name in outputs]
    return pb.ModelInferRequest(model_name="m", id="7", inputs=tensors, raw_input_contents=raw or [], outputs=asked)


@given(st.lists(st.binary(max_size=50), min_size=1, max_size=8), st.booleans())
def test_bytes_come_back_raw_or_not(images: list[bytes], raw: bool) -> None:
    tensor = Tensor(name="image", datatype="BYTES", shape=[len(images)])
    if raw:
        asked = request(tensor, raw=[oip.strings_to_raw(images)])
    else:
        tensor.contents.bytes_contents.extend(images)
        asked = request(tensor)
    assert oip.read_images(asked, 4, 8) == images


@pytest.mark.parametrize("raw", [True, False])
def test_pixels_come_back_raw_or_not(raw: bool) -> None:
    pixels = np.random.default_rng(0).standard_normal((2, 3, 4, 4)).astype(np.float32)
    tensor = Tensor(name="pixels", datatype="FP32", shape=[2, 3, 4, 4])
    if not raw:
        tensor.contents.fp32_contents.extend(pixels.ravel().tolist())
    read = oip.read_images(request(tensor, raw=[pixels.tobytes()] if raw else None), 4, 8)
    np.testing.assert_array_equal(np.stack(read), pixels)


IMAGE = Tensor(name="image", datatype="BYTES", shape=[1], contents=Contents(bytes_contents=[b"x"]))
PIXELS = {"name": "pixels", "datatype": "FP32"}
WRONG = [
    (request(), "0 inputs; expected one input: 'image'"),
    (request(IMAGE, IMAGE), "2 inputs"),
    (request(Tensor(name="photo", datatype="BYTES", shape=[1])), "input 'photo' of type BYTES; expected one input"),
    (request(Tensor(name="image", datatype="FP32", shape=[1])), "input 'image' of type FP32"),
    (request(Tensor(name="pixels", datatype="FP16", shape=[1, 3, 4, 4])), "input 'pixels' of type FP16"),
    (request(Tensor(name="image", shape=[1])), "of type none"),
    (request(IMAGE, raw=[b"x"]), "has bytes_contents and raw_input_contents is set as well"),
    (request(Tensor(name="image", datatype="BYTES", shape=[1]), raw=[b"", b""]), "2 raw_input_contents for 1 input"),
    (request(Tensor(name="image", datatype="BYTES", shape=[2], contents=Contents(bytes_contents=[b"x"]))), "and 1 elements; expected 2"),
    (request(Tensor(name="image", datatype="BYTES", shape=[1, 2, 3])), "expected [n] or [n, 1]"),
    (request(Tensor(name="image", datatype="BYTES", shape=[0])), "holds 0 images; expected 1 to 8"),
    (request(Tensor(name="image", datatype="BYTES", shape=[-1])), "holds -1 images"),
    (request(Tensor(name="image", datatype="BYTES", shape=[9])), "holds 9 images"),
    (request(Tensor(name="image", datatype="BYTES", shape=[])), "expected [n] or [n, 1]"),
    (request(Tensor(name="image", datatype="BYTES", shape=[1], contents=Contents(fp32_contents=[1.0]))), "has fp32_contents: expected bytes_contents"),
    (request(Tensor(name="image", datatype="BYTES", shape=[1]), raw=[b"abc"]), "3 bytes are left where a 4-byte length should be"),
    (request(Tensor(name="image", datatype="BYTES", shape=[1]), raw=[struct.pack("<I", 9) + b"abc"]), "says 9 bytes and 3 are left"),
    (request(Tensor(**PIXELS, shape=[1, 4, 4, 3]), raw=[b""]), "expected [n, 3, 4, 4]"),
    (request(Tensor(**PIXELS, shape=[]), raw=[b""]), "expected [n, 3, 4, 4]"),
    (request(Tensor(**PIXELS, shape=[1, 3, 4, 4]), raw=[b"1234"]), "and 4 raw bytes; expected 192"),
    (request(Tensor(**PIXELS, shape=[1, 3, 4, 4], contents=Contents(fp32_contents=[1.0]))), "and 1 elements; expected 48"),
    (request(Tensor(**PIXELS, shape=[1, 3, 4, 4]), raw=[np.full(48, np.nan, np.float32).tobytes()]), "NaN or infinity"),
]


@pytest.mark.parametrize(("asked", "message"), WRONG, ids=[m[:40] for _, m in WRONG])
def test_what_is_wrong_is_said(asked: pb.ModelInferRequest, message: str) -> None:
    with pytest.raises(oip.TensorError) as failed:
        oip.read_images(asked, 4, 8)
    assert message in str(failed.value)


@given(
    st.builds(pb.ModelInferRequest.FromString, st.just(b"")),
    st.binary(max_size=60),
    st.lists(st.integers(-3, 10), max_size=5),
    st.sampled_from(["BYTES", "FP32"]),
)
def test_any_raw_bytes_are_read_or_refused(asked: pb.ModelInferRequest, raw: bytes, shape: list[int], datatype: str) -> None:
    asked.inputs.add(name="image" if datatype == "BYTES" else "pixels", datatype=datatype, shape=shape)
    asked.raw_input_contents.append(raw)
    try:
        read = oip.read_images(asked, 1, 8)
    except oip.TensorError:
        return
    assert len(read) == shape[0]


OUTPUTS = [oip.Output("probability", "FP64", [0.25, 1.0]), oip.Output("positive", "BOOL", [False, True]), oip.Output("label", "BYTES", [b"a", b"bc"])]


def test_answers_come_raw_when_the_question_was() -> None:
    answer = oip.answer(request(raw=[b"x"]), "v1", OUTPUTS)
    assert (answer.model_version, answer.id) == ("v1", "7")
    assert list(answer.raw_output_contents) == [struct.pack("<2d", 0.25, 1.0), b"\x00\x01", b"\x01\x00\x00\x00a\x02\x00\x00\x00bc"]
    assert not any(len(o.contents.fp64_contents) for o in answer.outputs)


def test_answers_come_in_contents_when_the_question_did_and_in_the_order_asked_for() -> None:
    answer = oip.answer(request(outputs=("label", "probability")), "v1", OUTPUTS)
    assert [(o.name, o.datatype, list(o.shape)) for o in answer.outputs] == [("label", "BYTES", [2]), ("probability", "FP64", [2])]
    assert list(answer.outputs[0].contents.bytes_contents) == [b"a", b"bc"]
    assert list(answer.outputs[1].contents.fp64_contents) == [0.25, 1.0]


def test_an_output_that_does_not_exist_is_refused() -> None:
    with pytest.raises(oip.TensorError, match="output 'boxes' does not exist; m gives probability, positive"):
        oip.check_outputs(request(outputs=("boxes",)), ["probability", "positive"])
