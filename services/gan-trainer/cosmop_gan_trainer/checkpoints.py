"""Checkpoints in the object store: written beside each other, made valid by one pointer, verified when read."""

from __future__ import annotations

import json
import logging
from collections.abc import Container
from typing import Any

from cosmop_common.errors import NotFoundError
from cosmop_common.names import run_key, sha256_hex
from cosmop_common.store import Store

from cosmop_gan_trainer.errors import DamagedCheckpointError

log = logging.getLogger(__name__)


class Checkpoints:
    """``runs/<run>/checkpoint/``: ``latest.json`` names the last few states, and the best snapshot's, with their sha256, newest first.

    A state is whole before the pointer names it, so that a crash at any moment leaves the one before.
    """

    def __init__(self, store: Store, run: str, keep: int) -> None:
        self._store, self._run, self._keep = store, run, keep

    async def save(self, state: bytes, images: int, keep: Container[int] = ()) -> None:
        """Stores a state reached after so many images. Older ones go, but for the last few and those reached after ``keep`` images."""
        key = run_key(self._run, f"checkpoint/{images:09d}-{sha256_hex(state)[:12]}.safetensors")
        await self._store.put(key, state)
        known = [e for e in await self._entries() if e["key"] != key]
        entries = [{"key": key, "sha256": sha256_hex(state), "images": images}, *known]
        kept = [e for index, e in enumerate(entries) if index < self._keep or e["images"] in keep]
        await self._store.put_json(self._pointer, {"checkpoints": kept})
        for old in entries:
            if old not in kept:
                await self._store.delete(old["key"])

    async def load(self) -> bytes | None:
        """The newest state that is whole; None when none was ever saved.

        Raises:
            DamagedCheckpointError: there were some, and none can be read.
        """
        entries = await self._entries()
        for entry in entries:
            try:
                state = await self._store.get(entry["key"])
            except NotFoundError:
                log.warning("checkpoint %s is missing, trying the one before", entry["key"])
                continue
            if sha256_hex(state) == entry["sha256"]:
                return state
            log.warning("checkpoint %s is damaged, trying the one before", entry["key"])
        if entries:
            raise DamagedCheckpointError(f"no checkpoint of run {self._run} is whole ({len(entries)} tried): delete {self._pointer} to train from the start")
        return None

    @property
    def _pointer(self) -> str:
        return run_key(self._run, "checkpoint/latest.json")

    async def _entries(self) -> list[dict[str, Any]]:
        try:
            return list((await self._store.get_json(self._pointer))["checkpoints"])
        except NotFoundError:
            return []
        except (json.JSONDecodeError, KeyError, TypeError) as error:
            raise DamagedCheckpointError(f"{self._pointer} is damaged ({error}): delete it to train from the start") from error
