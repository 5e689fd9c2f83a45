"""Which models are served: the active versions, loaded as soon as they are made active, and others on request.

A version takes its predecessor's place in one assignment, after it has passed its smoke test; requests that began with the
old one end with it. One that does not load leaves the old one serving, and is taken back as the active version.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict

from cosmop_common.errors import CosmopError, InvalidInputError, NotReadyError
from cosmop_common.models_kv import ActiveModels
from cosmop_common.store import Store

from cosmop_classifier import registry
from cosmop_classifier.engine import Engines
from cosmop_classifier.int8 import Int8
from cosmop_classifier.metrics import ACTIVE, LOADS
from cosmop_classifier.registry import ModelNotFoundError
from cosmop_classifier.served import ServedModel, serve

log = logging.getLogger(__name__)

_PAUSES = (1.0, 3.0, 10.0, 30.0)


class NoActiveModelError(NotReadyError):
    """A model has no active version yet. Status: FAILED_PRECONDITION."""


class Hub:
    """The models in memory."""

    def __init__(self, store: Store, active: ActiveModels, engines: Engines, *, pinned: int = 4, int8: Int8 | None = None) -> None:
        """``int8`` makes active versions faster where they say the same; None leaves them as they are."""
        self._store, self._kv, self._engines = store, active, engines
        self._active: dict[str, ServedModel] = {}
        self._pinned: OrderedDict[tuple[str, str], ServedModel] = OrderedDict()
        self._pinned_bound = pinned
        self._loading = asyncio.Lock()
        self._settled = False
        self._int8 = int8
        self._hastening: set[asyncio.Task[None]] = set()

    @property
    def settled(self) -> bool:
        """Whether every model that was active at start has been loaded, or given up."""
        return self._settled

    def active_version(self, name: str) -> str:
        """The version of a model that is served; empty where none is."""
        return self._active[name].card.version if name in self._active else ""

    def active_versions(self) -> dict[str, str]:
        """Version by model."""
        return {name: model.card.version for name, model in self._active.items()}

    async def get(self, name: str, version: str = "") -> ServedModel:
        """A model ready to answer; without a version, the active one.

        Raises:
            NoActiveModelError: the model has no active version.
            ModelNotFoundError: there is no such model or version.
        """
        active = self._active.get(name)
        if active is not None and version in {"", active.card.version}:
            return active
        if not version:
            if not name:
                raise InvalidInputError("no model is named: set model, or collection for its binary classifier")
            registry.check_name(name)
            known = ", ".join(sorted(self._active)) or "none yet"
            found = [key async for key in self._store.list(f"models/{name}/") if key.endswith("/card.json")]
            if found:
                raise NoActiveModelError(f"no version of model {name!r} is active: ActivateModel makes one active")
            raise ModelNotFoundError(f"there is no model {name!r}; active are {known}")
        key = (name, version)
        if key not in self._pinned:
            self._pinned[key] = await self._load(name, version)
            while len(self._pinned) > self._pinned_bound:
                self._pinned.popitem(last=False)
        self._pinned.move_to_end(key)
        return self._pinned[key]

    async def activate(self, name: str, version: str) -> ServedModel:
        """Makes a version the active one, for this process and for all others that watch.

        The old one serves until the new one has passed its smoke test, and goes on if it fails.

        Raises:
            ModelNotFoundError: there is no such version.
            SmokeTestError, ChecksumError, HeadError: it does not load.
        """
        model = self._take(await self._load(name, version))
        await self._kv.activate(name, version)
        return model

    async def watch(self) -> None:
        """Follows the active versions without end: background work of the serving process."""
        async for change in self._kv.watch():
            if change is None:
                self._settled = True
                continue
            name, version = change
            # A word that is late: this process, or somebody else, has made another one active since.
            if self.active_version(name) != version and _is_classifier(name) and await self._kv.get(name) == version:
                await self._follow(name, version)

    async def _follow(self, name: str, version: str) -> None:
        """Takes over a version that somebody made active."""
        try:
            self._take(await self._load_patiently(name, version))
        except _NotOursError:
            return
        except CosmopError as error:
            log.error("%s/%s became active and does not load: %s", name, version, error)
            old = self.active_version(name)
            if old and error.permanent and await self._kv.get(name) == version:
                log.warning("%s goes back to %s", name, old)
                await self._kv.activate(name, old)

    async def _load_patiently(self, name: str, version: str) -> ServedModel:
        """Loads, trying again where the store is away for a while: its absence says nothing of the model."""
        for pause in _PAUSES:
            try:
                return await self._load(name, version)
            except CosmopError as error:
                if error.permanent:
                    raise
                log.warning("%s/%s cannot be loaded now, again in %.0f s: %s", name, version, pause, error)
                await asyncio.sleep(pause)
        return await self._load(name, version)

    async def _load(self, name: str, version: str) -> ServedModel:
        async with self._loading:
            active = self._active.get(name)
            if active is not None and active.card.version == version:
                return active
            try:
                files = await registry.load(self._store, name, version)
                if files.card.kind not in registry.SUFFIXES:
                    raise _NotOursError(f"{name} is a {files.card.kind} model: this service serves binary and one_class models")
                model = await asyncio.to_thread(serve, files, self._engines)
            except CosmopError:
                LOADS.labels(name, "failed").inc()
                raise
            except (KeyError, TypeError, ValueError) as error:
                LOADS.labels(name, "failed").inc()
                raise CardError(f"the card of {name}/{version} lacks what serving needs ({error!r}): train the model again") from error
            LOADS.labels(name, "loaded").inc()
            return model

    def _take(self, model: ServedModel) -> ServedModel:
        name = model.card.name
        old = self._active.get(name)
        self._active[name] = model
        if old is not None:
            ACTIVE.remove(name, old.card.version)
        ACTIVE.labels(name, model.card.version).set(1)
        log.info("%s is served at %s", name, model.card.version)
        if self._int8 is not None:
            task = asyncio.create_task(self._hasten(self._int8, model))
            self._hastening.add(task)
            task.add_done_callback(self._hastening.discard)
        return model

    async def _hasten(self, int8: Int8, model: ServedModel) -> None:
        """Puts a version's faster form in its place, where it has one and is still the active version."""
        name, version = model.card.name, model.card.version
        try:
            faster = await int8.faster(model)
        except CosmopError as error:
            log.warning("%s/%s cannot be had in whole numbers: %s", name, version, error)
            return
        if faster is not None and self._active.get(name) is model:
            self._active[name] = faster
            log.info("%s/%s is served in whole numbers", name, version)


class CardError(NotReadyError):
    """A model's card does not say what serving needs. Status: FAILED_PRECONDITION."""


class _NotOursError(InvalidInputError):
    """A model of another service."""


def _is_classifier(name: str) -> bool:
    return name.endswith((*registry.SUFFIXES.values(), registry.PAPER_SUFFIX))
