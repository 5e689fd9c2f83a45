"""The tensors of the Open Inference Protocol: read with every rule checked, and written the way they came.

Source: KServe's Open Inference Protocol, version 2, gRPC API. ``raw_input_contents`` holds each input's bytes in row-major,
little-endian order; an element of BYTES is its length as a 4-byte little-endian integer, then its bytes. Raw and
``contents`` exclude each other over the whole request.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from cosmop_common.errors import InvalidInputError
from cosmop_common.pb.inference import grpc_service_pb2 as pb
from numpy.typing import NDArray

Array = NDArray[np.float32]

#: Inputs that a model takes, one of the two: encoded images, or what preprocessing makes of them.
IMAGE, PIXELS = "image", "pixels"
_DTYPES: dict[str, np.dtype[Any]] = {"FP32": np.dtype("<f4"), "FP64": np.dtype("<f8"), "BOOL": np.dtype("?")}
_CONTENTS = ("bool_contents", "int_contents", "int64_contents", "uint_contents", "uint64_contents", "fp32_contents", "fp64_contents", "bytes_contents")


class TensorError(InvalidInputError):
    """A tensor that is not what the model takes; the message says what was expected."""


@dataclass(frozen=True)
class Output:
    """An output tensor of shape (n,)."""

    name: str
    #: "FP64", "BOOL" or "BYTES".
    datatype: str
    values: Sequence[float] | Sequence[bool] | Sequence[bytes]


def read_images(request: pb.ModelInferRequest, size: int, limit: int) -> list[bytes | Array]:
    """The images of a request: encoded bytes, or arrays of shape (3, size, size).

    Args:
        size: side of the network's input in pixels.
        limit: at most so many images in one request.

    Raises:
        TensorError: anything else than one input ``image`` (BYTES [n]) or ``pixels`` (FP32 [n, 3, size, size]).
    """
    expected = f"expected one input: {IMAGE!r} (BYTES, shape [n], encoded images) or {PIXELS!r} (FP32, shape [n, 3, {size}, {size}])"
    if len(request.inputs) != 1:
        raise TensorError(f"{len(request.inputs)} inputs; {expected}")
    tensor = request.inputs[0]
    raw = _raw(request, tensor)
    if tensor.name == IMAGE and tensor.datatype == "BYTES":
        if len(tensor.shape) not in {1, 2} or (len(tensor.shape) == 2 and tensor.shape[1] != 1):  # noqa: PLR2004
            raise TensorError(f"input {IMAGE!r} has shape {list(tensor.shape)}; expected [n] or [n, 1]")
        count = _count(tensor, limit)
        return list(_strings(raw, tensor, count))
    if tensor.name == PIXELS and tensor.datatype == "FP32":
        if list(tensor.shape[1:]) != [3, size, size]:
            raise TensorError(f"input {PIXELS!r} has shape {list(tensor.shape)}; expected [n, 3, {size}, {size}]")
        return list(_floats(raw, tensor, _count(tensor, limit)))
    raise TensorError(f"input {tensor.name!r} of type {tensor.datatype or 'none'}; {expected}")


def check_outputs(request: pb.ModelInferRequest, names: Sequence[str]) -> None:
    """Whether the model has the asked-for outputs. Raises ``TensorError``."""
    if unknown := [o.name for o in request.outputs if o.name not in names]:
        raise TensorError(f"output {unknown[0]!r} does not exist; {request.model_name} gives {', '.join(names)}")


def answer(request: pb.ModelInferRequest, version: str, outputs: Sequence[Output]) -> pb.ModelInferResponse:
    """The response: the asked-for outputs in the asked-for order (all, where none is named), raw when the request was."""
    known = {output.name: output for output in outputs}
    names = [o.name for o in request.outputs] or list(known)
    response = pb.ModelInferResponse(model_name=request.model_name, model_version=version, id=request.id)
    for name in names:
        output = known[name]
        tensor = response.outputs.add(name=name, datatype=output.datatype, shape=[len(output.values)])
        if request.raw_input_contents:
            response.raw_output_contents.append(_to_raw(output))
        elif output.datatype == "BYTES":
            tensor.contents.bytes_contents.extend(v for v in output.values if isinstance(v, bytes))
        elif output.datatype == "BOOL":
            tensor.contents.bool_contents.extend(bool(v) for v in output.values)
        else:
            tensor.contents.fp64_contents.extend(float(v) for v in output.values)
    return response


def strings_to_raw(values: Sequence[bytes]) -> bytes:
    """BYTES elements as raw contents."""
    return b"".join(struct.pack("<I", len(v)) + v for v in values)


def _raw(request: pb.ModelInferRequest, tensor: pb.ModelInferRequest.InferInputTensor) -> bytes | None:
    """The raw contents of the one input; None where its ``contents`` hold it."""
    filled = [name for name in _CONTENTS if len(getattr(tensor.contents, name))]
    if request.raw_input_contents:
        if filled:
            raise TensorError(f"input {tensor.name!r} has {filled[0]} and raw_input_contents is set as well: use one of the two")
        if len(request.raw_input_contents) != 1:
            raise TensorError(f"{len(request.raw_input_contents)} raw_input_contents for 1 input: expected one for each input")
        return request.raw_input_contents[0]
    wanted = "bytes_contents" if tensor.datatype == "BYTES" else "fp32_contents"
    if wrong := [name for name in filled if name != wanted]:
        raise TensorError(f"input {tensor.name!r} of type {tensor.datatype} has {wrong[0]}: expected {wanted}")
    return None


def _count(tensor: pb.ModelInferRequest.InferInputTensor, limit: int) -> int:
    count = int(tensor.shape[0])
    if not 0 < count <= limit:
        raise TensorError(f"input {tensor.name!r} holds {count} images; expected 1 to {limit} in one request")
    return count


def _strings(raw: bytes | None, tensor: pb.ModelInferRequest.InferInputTensor, count: int) -> list[bytes]:
    if raw is None:
        values = list(tensor.contents.bytes_contents)
    else:
        values, at = [], 0
        while at < len(raw):
            if at + 4 > len(raw):
                raise TensorError(f"input {tensor.name!r}: {len(raw) - at} bytes are left where a 4-byte length should be")
            (length,) = struct.unpack_from("<I", raw, at)
            at += 4
            if at + length > len(raw):
                raise TensorError(
                    f"input {tensor.name!r}: element {len(values)} says {length} bytes and {len(raw) - at} are left; lengths are 4 bytes, little-endian"
                )
            values.append(raw[at : at + length])
            at += length
    if len(values) != count:
        raise TensorError(f"input {tensor.name!r} has shape {list(tensor.shape)} and {len(values)} elements; expected {count}")
    return values


def _floats(raw: bytes | None, tensor: pb.ModelInferRequest.InferInputTensor, count: int) -> Array:
    expected = math.prod(tensor.shape)
    if raw is not None:
        if len(raw) != 4 * expected:
            raise TensorError(f"input {tensor.name!r} has shape {list(tensor.shape)} and {len(raw)} raw bytes; expected {4 * expected}")
        values: Array = np.frombuffer(raw, np.float32)
    else:
        values = np.asarray(tensor.contents.fp32_contents, np.float32)
        if len(values) != expected:
            raise TensorError(f"input {tensor.name!r} has shape {list(tensor.shape)} and {len(values)} elements; expected {expected}")
    if not np.isfinite(values).all():
        raise TensorError(f"input {tensor.name!r} holds NaN or infinity; expected preprocessed pixels")
    return values.reshape(count, *tensor.shape[1:])


def _to_raw(output: Output) -> bytes:
    if output.datatype == "BYTES":
        return strings_to_raw([v for v in output.values if isinstance(v, bytes)])
    return np.asarray(output.values, _DTYPES[output.datatype]).tobytes()
