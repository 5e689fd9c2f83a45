"""What a call asks: its image, its deadline, and the models, of which those that share a network share its pass."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Sequence
from typing import Any

import grpc
from cosmop_common.errors import InvalidInputError, NotFoundError
from cosmop_common.names import image_key
from cosmop_common.pb.cosmop.v1 import classifier_pb2
from cosmop_common.store import Store
from numpy.typing import NDArray

from cosmop_classifier import metrics
from cosmop_classifier.batcher import QueueFullError
from cosmop_classifier.engine import Request
from cosmop_classifier.served import ServedModel, Verdict

Context = grpc.aio.ServicerContext[Any, Any]
_FOREVER = float("inf")
_IMAGE_ID = re.compile(r"[0-9a-f]{64}")


class ImageMissingError(InvalidInputError):
    """A request without an image, or with something else in its place."""


async def ask(models: Sequence[ServedModel], image: bytes | NDArray[Any], deadline: float) -> list[Verdict]:
    """Each model's verdict on one image, in their order.

    Args:
        image: encoded, or preprocessed for the models' network.
        deadline: on ``time.monotonic``'s clock.

    Raises:
        RefusedImageError, QueueFullError, DeadlinePassedError: see ``Engine.ask``.
    """
    engines = list(dict.fromkeys(model.engine for model in models))
    with metrics.asking([model.card.name for model in models]):
        seen = await asyncio.gather(*(e.ask(Request(image, tuple(m.question for m in models if m.engine is e)), deadline) for e in engines))
    scores = {id(engine): iter(one.scores) for engine, one in zip(engines, seen, strict=True)}
    return [model.verdict(next(scores[id(model.engine)])) for model in models]


async def image_of(request: classifier_pb2.ClassifyRequest | classifier_pb2.ExplainRequest, store: Store) -> bytes:
    """The encoded image of a request: as it was sent, or from the store.

    Raises:
        ImageMissingError: there is none.
        NotFoundError: the store does not hold it.
    """
    which = request.WhichOneof("image")
    if which == "id":
        if not _IMAGE_ID.fullmatch(request.id):
            raise ImageMissingError(f"{request.id[:80]!r} is no image's id: expected the sha256 of its bytes, 64 lower-case hex digits")
        try:
            return await store.get_image(request.id)
        except NotFoundError as error:
            raise NotFoundError(f"image {request.id} is not in the store ({image_key(request.id)}): send its bytes as content") from error
    if which is None or not request.content:
        raise ImageMissingError("the request holds no image: set content (an encoded JPEG, PNG or WebP) or id (the sha256 of an image of the store)")
    return request.content


def deadline_of(context: Context) -> float:
    """A call's deadline on ``time.monotonic``'s clock."""
    remaining = context.time_remaining()
    return _FOREVER if remaining is None else time.monotonic() + remaining


def hint_retry(context: Context, error: QueueFullError) -> None:
    """Tells the caller when to come again: gRPC's own retry pushback, which its clients obey."""
    context.set_trailing_metadata((("grpc-retry-pushback-ms", str(max(1, round(1000 * error.retry_after)))),))
