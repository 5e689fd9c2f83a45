"""What makes the service screen again: another active model, or a collection that names another one."""

from __future__ import annotations

import asyncio
import logging

from cosmop_common.collection import Collection
from cosmop_common.runtime import Runtime
from cosmop_common.tasks import run_until

from cosmop_human_detector.models import Models
from cosmop_human_detector.registry import GENERAL, name_for
from cosmop_human_detector.screening import Screener
from cosmop_human_detector.worker import rescreen_collection

log = logging.getLogger(__name__)


class Following:
    """Knows the active models, and screens a collection again when its model has changed, also while the service was down."""

    def __init__(self, runtime: Runtime, models: Models, screener: Screener, *, concurrency: int) -> None:
        """Follows nothing yet.

        Args:
            concurrency: images screened again at once.
        """
        self._runtime = runtime
        self._models = models
        self._screener = screener
        self._concurrency = concurrency
        self._known = asyncio.Event()
        self._due: asyncio.Queue[Collection] = asyncio.Queue()

    async def start(self) -> None:
        """Begins; returns when all active models are known."""
        changes = self._runtime.collections.changes()
        for collection in self._runtime.collections.all():
            self._due.put_nowait(collection)
        for work in (self._follow_models(), self._follow_collections(changes), self._rescreen()):
            self._runtime.background(run_until(self._runtime.stopping, work))
        await self._known.wait()

    def ready(self) -> bool:
        """Whether all active models are known."""
        return self._known.is_set()

    async def _follow_models(self) -> None:
        async for name in self._models.follow(self._known):
            for collection in self._runtime.collections.all():
                if name in {GENERAL, name_for(collection.name)}:
                    self._due.put_nowait(collection)

    async def _follow_collections(self, changes: asyncio.Queue[Collection]) -> None:
        while True:
            self._due.put_nowait(await changes.get())

    async def _rescreen(self) -> None:
        await self._known.wait()
        while True:
            collection = await self._due.get()
            reference = self._models.reference(collection.name, collection.human_detector.model)
            changed = await rescreen_collection(self._runtime.facts, self._screener, collection.name, concurrency=self._concurrency)
            if changed:
                log.info("screened again with another model", extra={"collection": collection.name, "model": reference, "changed": changed})
