"""A typed client in a few lines, for callers that do not want to know gRPC.

async with ClassifierClient("127.0.0.1:50051", collection="immigration") as client:
    answer = await client.classify(data, one_class=True)
    async for answer in client.classify_many(paths_as_bytes): ...
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterable, AsyncIterator, Iterable
from types import TracebackType
from typing import Self

from cosmop_common.endpoints import channel
from cosmop_common.pb.cosmop.v1 import classifier_pb2, classifier_pb2_grpc

Answer = classifier_pb2.ClassifyResponse

#: gRPC's own retries: a busy server says when to come again (grpc-retry-pushback-ms), one that is being replaced is asked once more.
_RETRIES = {
    "methodConfig": [
        {
            "name": [{"service": "cosmop.v1.Classifier", "method": "Classify"}, {"service": "cosmop.v1.Classifier", "method": "Explain"}],
            "retryPolicy": {
                "maxAttempts": 4,
                "initialBackoff": "0.1s",
                "maxBackoff": "2s",
                "backoffMultiplier": 2,
                "retryableStatusCodes": ["RESOURCE_EXHAUSTED", "UNAVAILABLE"],
            },
        }
    ]
}


class ClassifierClient:
    """Asks a classifier service. An async context manager, or ``close`` it.

    TLS and token come from the environment (``cosmop_common.grpc_security.ClientSecurity``). A call that a busy server refuses is made again
    when the server said, at most three times and within its timeout.
    """

    def __init__(self, address: str, *, collection: str = "", model: str = "", version: str = "", timeout: float = 30.0) -> None:
        """``address`` is host:port; ``collection`` or ``model`` says which classifier to ask; ``timeout`` is of one call, in seconds."""
        self._channel = channel(address, options=[("grpc.service_config", json.dumps(_RETRIES))])
        self._stub = classifier_pb2_grpc.ClassifierStub(self._channel)
        self._which = classifier_pb2.ClassifyRequest(collection=collection, model=model, version=version)
        self._timeout = timeout

    async def classify(self, image: bytes | str, *, one_class: bool = False) -> Answer:
        """The verdict on one image: its encoded bytes, or its id in the store.

        Raises:
            grpc.aio.AioRpcError: with the status that the service's README lists.
        """
        return await self._stub.Classify(self._request(image, one_class), timeout=self._timeout)

    async def classify_many(self, images: Iterable[bytes | str] | AsyncIterable[bytes | str], *, one_class: bool = False) -> AsyncIterator[Answer]:
        """Verdicts in the order of the images; one that cannot be read has ``error`` set and the others go on."""

        async def requests() -> AsyncIterator[classifier_pb2.ClassifyRequest]:
            if isinstance(images, AsyncIterable):
                async for image in images:
                    yield self._request(image, one_class)
            else:
                for image in images:
                    yield self._request(image, one_class)

        async for answer in self._stub.ClassifyStream(requests()):
            yield answer

    async def explain(self, image: bytes | str, *, nearest: int = 5) -> classifier_pb2.ExplainResponse:
        """Where the verdict on one image comes from: a heat map, its picture (PNG), and the training images most like it.

        The first one of a model version may take long: its training images are looked at once.
        """
        request = classifier_pb2.ExplainRequest(collection=self._which.collection, model=self._which.model, version=self._which.version, nearest=nearest)
        if isinstance(image, bytes):
            request.content = image
        else:
            request.id = image
        return await self._stub.Explain(request, timeout=self._timeout)

    async def models(self) -> list[classifier_pb2.Model]:
        """All registered versions of the collection's models."""
        answer = await self._stub.ListModels(classifier_pb2.ListModelsRequest(collection=self._which.collection), timeout=self._timeout)
        return list(answer.models)

    async def close(self) -> None:
        """Ends the connection."""
        await self._channel.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.close()

    def _request(self, image: bytes | str, one_class: bool) -> classifier_pb2.ClassifyRequest:
        request = classifier_pb2.ClassifyRequest()
        request.CopyFrom(self._which)
        request.one_class = one_class
        if isinstance(image, bytes):
            request.content = image
        else:
            request.id = image
        return request
