"""Each collection's settings, kept in the key-value bucket ``collections`` and watched by the workers."""

from __future__ import annotations

import asyncio
import contextlib

from nats.js.errors import KeyDeletedError, KeyNotFoundError
from nats.js.kv import KeyValue

from cosmop_common.bus import Bus
from cosmop_common.collection import Collection
from cosmop_common.errors import NotFoundError
from cosmop_common.names import token
from cosmop_common.tasks import end_tasks


class Collections:
    """Reads and writes collections; ``get`` answers from memory once ``start`` was called."""

    def __init__(self, bus: Bus) -> None:
        self._js = bus.js
        self._kv: KeyValue | None = None
        self._known: dict[str, tuple[Collection, int]] = {}
        self._task: asyncio.Task[None] | None = None
        self._changed: list[asyncio.Queue[Collection]] = []

    async def start(self) -> None:
        """Begins to watch; returns when all present collections are known."""
        watcher = await (await self._bucket()).watchall(ignore_deletes=True)
        complete = asyncio.Event()

        async def follow() -> None:
            async for entry in watcher:
                if entry is None:
                    complete.set()
                    continue
                if entry.value:
                    collection = Collection.parse(entry.value.decode(), origin=f"collection {entry.key}")
                    self._known[collection.name] = (collection, entry.revision or 0)
                    for queue in self._changed:
                        queue.put_nowait(collection)

        self._task = asyncio.create_task(follow())
        await asyncio.wait_for(complete.wait(), 30)

    async def stop(self) -> None:
        """Ends watching."""
        if self._task:
            await end_tasks([self._task])

    def changes(self) -> asyncio.Queue[Collection]:
        """A queue that gets each collection when it changes, from now on."""
        queue: asyncio.Queue[Collection] = asyncio.Queue()
        self._changed.append(queue)
        return queue

    async def get(self, name: str) -> Collection:
        """The newest settings of a collection. Raises ``NotFoundError``."""
        return (await self.entry(name))[0]

    async def entry(self, name: str) -> tuple[Collection, int]:
        """The newest settings and their revision. Raises ``NotFoundError``."""
        if self._task and name in self._known:
            return self._known[name]
        try:
            entry = await (await self._bucket()).get(token(name))
        except (KeyNotFoundError, KeyDeletedError) as error:
            raise NotFoundError(f"there is no collection {name!r}: `cosmop run FILE` or the console makes one") from error
        return Collection.parse((entry.value or b"").decode(), origin=f"collection {name}"), entry.revision or 0

    async def put(self, collection: Collection) -> int:
        """Stores a collection's settings; returns the revision. The same settings again are not stored twice."""
        with contextlib.suppress(NotFoundError):
            known, revision = await self.entry(collection.name)
            if known == collection:
                return revision
        revision = await (await self._bucket()).put(token(collection.name), collection.to_json().encode())
        self._known[collection.name] = (collection, revision)
        return revision

    def all(self) -> list[Collection]:
        """All collections known, by name. Needs ``start``."""
        return [self._known[name][0] for name in sorted(self._known)]

    async def _bucket(self) -> KeyValue:
        if self._kv is None:
            self._kv = await self._js.key_value("collections")
        return self._kv
