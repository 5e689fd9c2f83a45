"""Which training images are most like an image, by the cosine of their pooled features.

A neighbours head brings its bank. For every other model the serving process looks at the training images itself when somebody first
asks, up to a bound chosen by their ids (which are hashes, so: at random), through the same queue as everybody, and keeps what it saw
beside the version: ``models/<name>/<version>/embeddings.safetensors``. That holds for a fine-tuned network too, whose features
nobody has but the version itself.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from dataclasses import dataclass

import numpy as np
from cosmop_common.errors import NotFoundError, RefusedImageError
from cosmop_common.names import model_key
from cosmop_common.store import Store
from numpy.typing import NDArray
from safetensors.numpy import load, save

from cosmop_classifier.batcher import DeadlinePassedError, QueueFullError
from cosmop_classifier.engine import Request
from cosmop_classifier.heads import Array, Features, KnnHead, unit
from cosmop_classifier.registry import TRAINING, TrainingImages
from cosmop_classifier.served import ServedModel

log = logging.getLogger(__name__)

EMBEDDINGS = "embeddings.safetensors"
#: Images in work at once while a bank is made: callers come first.
_IN_FLIGHT = 4
_KEPT = 8


@dataclass(frozen=True)
class _Bank:
    """Training images, and their features as a head that finds the nearest."""

    images: list[str]
    head: KnnHead

    def nearest(self, features: Features, count: int) -> list[tuple[str, float]]:
        if not self.images:
            return []
        rows, alike = self.head.nearest(features, count)
        return [(self.images[row], float(cosine)) for row, cosine in zip(rows[0], alike[0], strict=True)]


class TrainingNeighbours:
    """Banks by model version: read, or made, once."""

    def __init__(self, store: Store, *, limit: int = 2000) -> None:
        """``limit`` bounds the training images that a bank is made of."""
        self._store, self._limit = store, limit
        self._banks: OrderedDict[tuple[str, str], asyncio.Task[_Bank]] = OrderedDict()

    async def nearest(self, model: ServedModel, features: Features, count: int, deadline: float) -> list[tuple[str, float]]:
        """Training images most like one image, with their cosines, best first.

        Args:
            deadline: on ``time.monotonic``'s clock. A bank that is not made by then goes on being made for the next caller.

        Raises:
            DeadlinePassedError: the bank was not made in time.
        """
        key = (model.card.name, model.card.version)
        task = self._banks.get(key)
        if task is None or (task.done() and (task.cancelled() or task.exception() is not None)):
            task = self._banks[key] = asyncio.create_task(self._bank(model))
            while len(self._banks) > _KEPT:
                self._banks.popitem(last=False)
        self._banks.move_to_end(key)
        left = deadline - time.monotonic()
        done, _ = await asyncio.wait({task}, timeout=left if left < float("inf") else None)
        if not done:
            raise DeadlinePassedError("the training images are still being looked at, once for this version: ask again")
        return await asyncio.to_thread(task.result().nearest, features, count)

    async def _bank(self, model: ServedModel) -> _Bank:
        card = model.card
        training = await TrainingImages.load(self._store, model_key(card.name, card.version, TRAINING))
        if isinstance(model.head, KnnHead) and len(model.head.bank) == len(training.images):
            return _Bank(training.images, model.head)
        key = model_key(card.name, card.version, EMBEDDINGS)
        try:
            return _read(await self._store.get(key))
        except NotFoundError:
            bank = await self._look(model, sorted(set(training.images))[: self._limit])
            await self._store.put_new(key, _written(bank))
            log.info("%s/%s: features of %d training images are kept", card.name, card.version, len(bank.images))
            return bank

    async def _look(self, model: ServedModel, images: list[str]) -> _Bank:
        gate = asyncio.Semaphore(_IN_FLIGHT)

        async def look(image: str) -> tuple[str, Array] | None:
            async with gate:
                try:
                    return image, await self._pooled(model, await self._store.get_image(image))
                except (NotFoundError, RefusedImageError):
                    return None  # erased since, or a synthetic one that was never stored as an image

        seen = [found for found in await asyncio.gather(*map(look, images)) if found is not None]
        rows = np.concatenate([pooled for _, pooled in seen]) if seen else np.zeros((0, 0), np.float32)
        return _Bank([image for image, _ in seen], KnnHead(unit(rows), 1))

    async def _pooled(self, model: ServedModel, data: bytes) -> Array:
        while True:
            try:
                seen = await model.engine.ask(Request(data, features=True))
            except QueueFullError as error:
                await asyncio.sleep(error.retry_after)
            else:
                assert seen.features is not None
                return seen.features.pooled


def _written(bank: _Bank) -> bytes:
    ids: NDArray[np.uint8] = np.frombuffer(bytes.fromhex("".join(bank.images)), np.uint8).reshape(-1, 32)
    return save({"images": ids, "rows": bank.head.bank})


def _read(data: bytes) -> _Bank:
    tensors = load(data)
    return _Bank([bytes(row).hex() for row in tensors["images"]], KnnHead(tensors["rows"], 1))
