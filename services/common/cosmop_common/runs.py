"""The state of each run: one value in the key-value bucket ``runs``, changed by compare-and-set, watched by whoever cares."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import nats.errors
from nats.js.errors import APIError, KeyDeletedError, KeyNotFoundError, KeyWrongLastSequenceError
from nats.js.kv import KeyValue
from ulid import ULID

from cosmop_common.bus import Bus
from cosmop_common.errors import ConflictError, NotFoundError
from cosmop_common.names import token
from cosmop_common.pb.cosmop.v1 import runs_pb2

ENDED = {runs_pb2.RUN_STATE_SUCCEEDED, runs_pb2.RUN_STATE_FAILED, runs_pb2.RUN_STATE_CANCELLED}
_TRIES = 50
_WRONG_LAST_SEQUENCE = 10071


def new_run_id(kind: str) -> str:
    """``train-gan-01J...``: sorts by time within a kind."""
    return f"{kind.replace('_', '-')}-{str(ULID()).lower()}"


class Runs:
    """Reads and changes runs."""

    def __init__(self, bus: Bus) -> None:
        self._js = bus.js
        self._kv: KeyValue | None = None

    async def create(self, run: runs_pb2.Run) -> bool:
        """Stores a new run. Returns False when its id exists."""
        try:
            await (await self._bucket()).create(token(run.id), run.SerializeToString())
        except KeyWrongLastSequenceError:
            return False
        return True

    async def get(self, run: str) -> runs_pb2.Run:
        """The run. Raises ``NotFoundError``."""
        return (await self._entry(run))[0]

    async def find(self, run: str) -> runs_pb2.Run | None:
        """The run, or None."""
        try:
            return await self.get(run)
        except NotFoundError:
            return None

    async def change(self, run: str, change: Callable[[runs_pb2.Run], None]) -> runs_pb2.Run:
        """Applies ``change`` to the newest state and stores it; repeats when somebody else was faster."""
        bucket = await self._bucket()
        for attempt in range(_TRIES):
            state, revision = await self._entry(run)
            before = state.SerializeToString(deterministic=True)
            change(state)
            after = state.SerializeToString(deterministic=True)
            if after == before:
                return state
            try:
                await bucket.update(token(run), after, last=revision)
            except (KeyWrongLastSequenceError, TimeoutError, nats.errors.TimeoutError):
                # After a time-out it may have been stored: the next round sees that nothing is left to change.
                await asyncio.sleep(0.01 * attempt)
                continue
            except APIError as error:
                if error.err_code != _WRONG_LAST_SEQUENCE:
                    raise
                await asyncio.sleep(0.01 * attempt)
                continue
            return state
        raise ConflictError(f"run {run} was changed by somebody else {_TRIES} times meanwhile; try again")

    async def cancel(self, run: str) -> runs_pb2.Run:
        """Asks for a run's end; one that nobody has started ends at once."""

        def word(state: runs_pb2.Run) -> None:
            if state.state in ENDED:
                return
            state.cancel = True
            if state.state == runs_pb2.RUN_STATE_QUEUED:
                state.state = runs_pb2.RUN_STATE_CANCELLED
                state.finished.GetCurrentTime()

        return await self.change(run, word)

    async def list(self, collection: str = "", limit: int = 100, kind: str = "") -> list[runs_pb2.Run]:
        """Runs, newest first. ``kind`` is a prefix: "gan-trainer." is all of that service's."""
        watcher = await (await self._bucket()).watchall(ignore_deletes=True)
        runs = []
        try:
            async for entry in watcher:
                if entry is None:  # all that there is has come
                    break
                if entry.value is None:
                    continue
                run = runs_pb2.Run.FromString(entry.value)
                if (not collection or run.collection == collection) and run.kind.startswith(kind):
                    runs.append(run)
        finally:
            await watcher.stop()
        runs.sort(key=lambda r: r.created.ToNanoseconds(), reverse=True)
        return runs[: limit or 100]

    async def watch(self, run: str) -> AsyncIterator[runs_pb2.Run]:
        """The run as it is, then each change, until it has ended. Raises ``NotFoundError``."""
        await self.get(run)
        watcher = await (await self._bucket()).watch(token(run))
        try:
            async for entry in watcher:
                if entry is None or entry.value is None:
                    continue
                state = runs_pb2.Run.FromString(entry.value)
                yield state
                if state.state in ENDED:
                    return
        finally:
            await watcher.stop()

    async def _entry(self, run: str) -> tuple[runs_pb2.Run, int]:
        try:
            entry = await (await self._bucket()).get(token(run))
        except (KeyNotFoundError, KeyDeletedError) as error:
            raise NotFoundError(f"there is no run {run!r}: `cosmop status` lists the runs") from error
        return runs_pb2.Run.FromString(entry.value or b""), entry.revision or 0

    async def _bucket(self) -> KeyValue:
        if self._kv is None:
            self._kv = await self._js.key_value("runs")
        return self._kv


async def publish_event(bus: Bus, run: str, event: str, payload: bytes = b"") -> None:
    """Tells watchers of a run what happened: a copy, never the only record, so that its loss is no failure."""
    try:
        await bus.client.publish(f"cosmop.runs.{token(run)}.{token(event)}", payload)
    except nats.errors.Error:
        return
