"""Which model version is active: the key-value bucket ``models``, one key a model, its value the version."""

from __future__ import annotations

from collections.abc import AsyncIterator

from nats.js.errors import KeyDeletedError, KeyNotFoundError, NoKeysError

from cosmop_common.bus import Bus
from cosmop_common.names import token


class ActiveModels:
    """Reads, changes and watches the active version of each model."""

    def __init__(self, bus: Bus) -> None:
        self._js = bus.js

    async def get(self, model: str) -> str | None:
        """The active version, or None."""
        bucket = await self._js.key_value("models")
        try:
            entry = await bucket.get(token(model))
        except (KeyNotFoundError, KeyDeletedError):
            return None
        return (entry.value or b"").decode() or None

    async def history(self, model: str) -> list[str]:
        """Versions in the order in which they were made active, the present one last; as far back as the bucket remembers."""
        bucket = await self._js.key_value("models")
        try:
            entries = await bucket.history(token(model))
        except (KeyNotFoundError, NoKeysError):
            return []
        return [entry.value.decode() for entry in entries if entry.value]

    async def before(self, model: str) -> str | None:
        """The version that was active before the present one, or None."""
        versions = await self.history(model)
        return next((version for version in reversed(versions) if version != versions[-1]), None)

    async def activate(self, model: str, version: str) -> None:
        """Makes a version the active one."""
        await (await self._js.key_value("models")).put(token(model), version.encode())

    async def watch(self) -> AsyncIterator[tuple[str, str] | None]:
        """Each model's (name, version) as it is, then None, then each change."""
        watcher = await (await self._js.key_value("models")).watchall(ignore_deletes=True)
        try:
            async for entry in watcher:
                yield None if entry is None else (entry.key, (entry.value or b"").decode())
        finally:
            await watcher.stop()
