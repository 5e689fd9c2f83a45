"""``inference.GRPCInferenceService``: the Open Inference Protocol, version 2, over the same models."""

from __future__ import annotations

import asyncio
import importlib.metadata
from collections.abc import Callable, Sequence

import grpc
from cosmop_common.errors import CosmopError
from cosmop_common.pb.inference import grpc_service_pb2 as pb
from cosmop_common.pb.inference import grpc_service_pb2_grpc

from cosmop_classifier import oip
from cosmop_classifier.asking import Context, ask, deadline_of, hint_retry
from cosmop_classifier.batcher import QueueFullError
from cosmop_classifier.hub import Hub
from cosmop_classifier.registry import BINARY
from cosmop_classifier.review import Review
from cosmop_classifier.served import ServedModel, Verdict

_NAME = "cosmop-classifier"


class InferenceServicer(grpc_service_pb2_grpc.GRPCInferenceServiceServicer):
    """See ``proto/inference/grpc_service.proto``.

    A model takes ``image`` (BYTES, encoded) or ``pixels`` (FP32, preprocessed). A binary model gives ``probability``,
    ``positive``, ``label`` and ``uncertain``; a one-class model ``score`` and ``positive``.
    """

    def __init__(self, hub: Hub, review: Review, ready: Callable[[], bool], *, max_images: int = 128) -> None:
        self._hub, self._review, self._ready, self._max_images = hub, review, ready, max_images

    async def ServerLive(self, request: pb.ServerLiveRequest, context: Context) -> pb.ServerLiveResponse:  # noqa: ARG002, N802
        """True whenever it answers."""
        return pb.ServerLiveResponse(live=True)

    async def ServerReady(self, request: pb.ServerReadyRequest, context: Context) -> pb.ServerReadyResponse:  # noqa: ARG002, N802
        """Whether the active models are loaded."""
        return pb.ServerReadyResponse(ready=self._ready())

    async def ModelReady(self, request: pb.ModelReadyRequest, context: Context) -> pb.ModelReadyResponse:  # noqa: ARG002, N802
        """Whether a model can answer. A model that exists and does not load is not ready; one that does not exist is NOT_FOUND."""
        try:
            await self._hub.get(request.name, request.version)
        except CosmopError as error:
            if error.grpc_code in {grpc.StatusCode.NOT_FOUND, grpc.StatusCode.INVALID_ARGUMENT}:
                raise
            return pb.ModelReadyResponse(ready=False)
        return pb.ModelReadyResponse(ready=True)

    async def ServerMetadata(self, request: pb.ServerMetadataRequest, context: Context) -> pb.ServerMetadataResponse:  # noqa: ARG002, N802
        """Name and version; no extension is offered."""
        return pb.ServerMetadataResponse(name=_NAME, version=importlib.metadata.version(_NAME), extensions=[])

    async def ModelMetadata(self, request: pb.ModelMetadataRequest, context: Context) -> pb.ModelMetadataResponse:  # noqa: ARG002, N802
        """What a model takes and gives."""
        model = await self._hub.get(request.name, request.version)
        size = model.engine.preprocessing.size
        tensor = pb.ModelMetadataResponse.TensorMetadata
        empty = [Verdict(positive=False, score=0.0, uncertain=False)]
        return pb.ModelMetadataResponse(
            name=model.card.name,
            versions=[model.card.version],
            platform="onnxruntime_onnx",
            inputs=[tensor(name=oip.IMAGE, datatype="BYTES", shape=[-1]), tensor(name=oip.PIXELS, datatype="FP32", shape=[-1, 3, size, size])],
            outputs=[tensor(name=o.name, datatype=o.datatype, shape=[-1]) for o in outputs_of(model, empty)],
        )

    async def ModelInfer(self, request: pb.ModelInferRequest, context: Context) -> pb.ModelInferResponse:  # noqa: N802
        """Verdicts on the images of one request; all of them or an error."""
        model = await self._hub.get(request.model_name, request.model_version)
        images = oip.read_images(request, model.engine.preprocessing.size, self._max_images)
        oip.check_outputs(request, [o.name for o in outputs_of(model, [])])
        deadline = deadline_of(context)
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(ask([model], image, deadline)) for image in images]
        except ExceptionGroup as failed:
            error = failed.exceptions[0]
            if isinstance(error, QueueFullError):
                hint_retry(context, error)
            raise error from None
        verdicts = [task.result()[0] for task in tasks]
        for image, verdict in zip(images, verdicts, strict=True):
            if isinstance(image, bytes):
                self._review.note(image, model, verdict)
        return oip.answer(request, model.card.version, outputs_of(model, verdicts))


def outputs_of(model: ServedModel, verdicts: Sequence[Verdict]) -> list[oip.Output]:
    """The output tensors of a model's verdicts."""
    positive = oip.Output("positive", "BOOL", [v.positive for v in verdicts])
    score = [v.score for v in verdicts]
    if model.card.kind != BINARY:
        return [oip.Output("score", "FP64", score), positive]
    return [
        oip.Output("probability", "FP64", score),
        positive,
        oip.Output("label", "BYTES", [model.label(v.positive).encode() for v in verdicts]),
        oip.Output("uncertain", "BOOL", [v.uncertain for v in verdicts]),
    ]
