"""Which model screens a collection, loaded and ready.

In this order: the version that the collection names (``human_detector.model``), the active version of ``human-<collection>``, the
active version of ``human``, and the default (the shipped head, or what ``COSMOP_HUMAN_DETECTOR`` says).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from cosmop_common.errors import CosmopError
from cosmop_common.models_kv import ActiveModels
from cosmop_common.records import ModelCard
from cosmop_common.store import Store
from cosmop_vision.runtime import Extractor
from cosmop_vision.settings import VisionSettings
from numpy.typing import NDArray

from cosmop_human_detector import tuned
from cosmop_human_detector.batching import Batcher
from cosmop_human_detector.detectors import Detector, HeadDetector, smoke_test
from cosmop_human_detector.errors import ModelFileError
from cosmop_human_detector.heads import Head
from cosmop_human_detector.nanodet import NanoDet
from cosmop_human_detector.registry import GENERAL, HEAD_FILE, ONNX_FILE, load_card, load_file, name_for, register, split_model
from cosmop_human_detector.tuned import write_whole

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Model:
    """A model version that can score."""

    card: ModelCard
    detector: Detector
    batcher: Batcher
    decoders: ThreadPoolExecutor

    @property
    def reference(self) -> str:
        """``<name>/<version>``."""
        return f"{self.card.name}/{self.card.version}"

    async def score(self, data: bytes) -> float:
        """The score of one encoded image; decoding and inference happen off the event loop. Raises ``RefusedImageError``."""
        array: NDArray[np.float32] = await asyncio.get_running_loop().run_in_executor(self.decoders, self.detector.prepare, data)
        return await self.batcher.score(array)

    def uncertain(self, score: float) -> bool:
        """Whether a score lies in the grey band: a person should look."""
        low, high = self.card.details.get("band") or (self.card.threshold, self.card.threshold)
        return bool(low <= score < high)


class Models:
    """Loads model versions once, and knows which one is whose."""

    def __init__(self, store: Store, active: ActiveModels, *, batch: int, seconds: float, settings: VisionSettings | None = None) -> None:
        """Loads nothing yet.

        Args:
            batch: the largest batch.
            seconds: how long the first image of a batch waits for others.
        """
        self._store = store
        self._active = active
        self._batch, self._seconds = batch, seconds
        self._settings = settings or VisionSettings()
        self._versions: dict[str, str] = {}
        self._loaded: dict[str, Model] = {}
        self._extractors: dict[str, Extractor] = {}
        self._loading = asyncio.Lock()
        # One inference at a time: it already uses all the threads that the settings give it.
        self._inference = ThreadPoolExecutor(1, thread_name_prefix="inference")
        self._decoders = ThreadPoolExecutor(thread_name_prefix="decode")
        self._default = ""

    async def set_default(self, card: ModelCard, files: dict[str, bytes]) -> Model:
        """Registers a version and makes it the one for whom nothing else is chosen. It must load."""
        await register(self._store, card, files)
        self._default = f"{card.name}/{card.version}"
        model = await self.load(self._default)
        log.info("the default human filter", extra={"model": self._default, "network": card.network, "threshold": card.threshold})
        return model

    async def follow(self, complete: asyncio.Event) -> AsyncIterator[str]:
        """Keeps the active versions known; yields the name of each model whose version changed after ``complete`` was set."""
        async for entry in self._active.watch():
            if entry is None:
                complete.set()
                continue
            name, version = entry
            changed = self._versions.get(name) != version
            self._versions[name] = version
            if complete.is_set() and changed:
                yield name

    def reference(self, collection: str, wanted: str = "") -> str:
        """The version that screens a collection, whose settings name ``wanted`` (or nothing)."""
        if wanted:
            return wanted
        for name in dict.fromkeys((name_for(collection), GENERAL)):
            if version := self._versions.get(name):
                return f"{name}/{version}"
        return self._default

    async def resolve(self, collection: str, wanted: str = "") -> Model:
        """The loaded model that screens a collection. Raises ``NotFoundError``, ``ModelFileError``, ``WeightsUnavailableError``."""
        return await self.load(self.reference(collection, wanted))

    async def load(self, reference: str) -> Model:
        """A version, loaded and smoke-tested at its first use."""
        # Not behind the lock: what is loaded answers while another version is being fetched.
        if model := self._loaded.get(reference):
            return model
        async with self._loading:
            if reference not in self._loaded:
                card = await load_card(self._store, reference)
                detector = await self._build(card)
                await asyncio.to_thread(smoke_test, detector)
                batcher = Batcher(detector.scores, self._inference, size=self._batch, seconds=self._seconds)
                self._loaded[reference] = Model(card, detector, batcher, self._decoders)
            return self._loaded[reference]

    async def activate(self, name: str, version: str) -> Model:
        """Makes a version the active one of its name, after it was loaded and smoke-tested; on failure the old one stays active."""
        reference = f"{name}/{version}"
        split_model(reference)
        try:
            model = await self.load(reference)
        except CosmopError as error:
            log.warning("%s is not activated, %s stays: %s", reference, self._versions.get(name, "the default"), error)
            raise
        await self._active.activate(name, version)
        self._versions[name] = version
        return model

    async def close(self) -> None:
        """Ends batches and threads."""
        for model in self._loaded.values():
            await model.batcher.close()
        self._inference.shutdown(wait=True)
        self._decoders.shutdown(wait=True)

    async def _build(self, card: ModelCard) -> Detector:
        backend = card.details.get("backend", "head")
        if backend == "head":
            head = Head.from_bytes(await load_file(self._store, card, HEAD_FILE))
            return HeadDetector(head, await self._extractor(head.shape.network))
        if backend == tuned.BACKEND:
            return await tuned.load_tuned(self._store, card, self._settings)
        if backend == "nanodet":
            path = self._settings.cache / "models" / f"{card.files[ONNX_FILE]}.onnx"
            data = await load_file(self._store, card, ONNX_FILE)
            await asyncio.to_thread(write_whole, path, data)
            return await asyncio.to_thread(NanoDet, path, self._settings)
        if backend == "torchvision":
            from cosmop_human_detector.coco import CocoDetector

            return await asyncio.to_thread(CocoDetector, card.network, self._settings)
        raise ModelFileError(f"{card.name}/{card.version} needs the backend {backend!r}, which this service does not know: update the service")

    async def _extractor(self, network: str) -> Extractor:
        if network not in self._extractors:
            self._extractors[network] = await asyncio.to_thread(Extractor.create, network, ("map",), "auto", self._settings)
        return self._extractors[network]
