"""Follows every stream of facts, and the dead letters, into the read model.

No durable consumer: the read model itself records how far each stream was applied, in the transaction that applied it,
and goes on from there. A stream that was made anew (a restore, a wiped server) makes the read model anew.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sqlite3
from collections.abc import AsyncIterator
from dataclasses import dataclass

import nats.errors
from cosmop_common.bus import Bus
from cosmop_common.errors import UnreachableError
from cosmop_common.facts import Facts
from cosmop_common.names import FACT_KINDS, facts_stream
from cosmop_common.pb.cosmop.v1 import facts_pb2
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy
from nats.js.errors import NotFoundError

from cosmop_console.database import reset
from cosmop_console.projection import Projection

log = logging.getLogger(__name__)

DEAD = "DEAD"
_STREAMS = (*(facts_stream(kind) for kind in FACT_KINDS), DEAD)
_COMMIT_SECONDS = 0.2
_CHECK_SECONDS = 5.0
#: A stream whose last messages were purged never reaches its last sequence: quiet for so long, it counts as caught up.
_QUIET_SECONDS = 1.0
#: Facts applied before other work of the process gets its turn.
_SLICE = 200


@dataclass(frozen=True)
class _Head:
    """Where a stream stands on the server."""

    created: str
    sequence: int


class Follower:
    """Keeps the read model at the head of the streams."""

    def __init__(self, bus: Bus, connection: sqlite3.Connection) -> None:
        self._bus = bus
        self._facts = Facts(bus)
        self._db = connection
        self.projection = Projection(connection)
        self._positions: dict[str, int] = {}
        self._applied = asyncio.Condition()
        self._last_applied = 0.0
        #: Whether the read model has reached the heads that the streams had when it started to follow.
        self.caught_up = False

    @property
    def positions(self) -> dict[str, int]:
        """The last sequence applied of each stream."""
        return dict(self._positions)

    async def run(self, stopping: asyncio.Event) -> None:
        """Follows until ``stopping``. A stream made anew ends one round, and the next begins with an empty read model."""
        stop = asyncio.create_task(stopping.wait())
        try:
            while not stopping.is_set():
                await self._round(stop)
        finally:
            stop.cancel()

    async def _round(self, stop: asyncio.Task[bool]) -> None:
        """Follows until ``stop`` or until a stream was made anew; whatever fails meanwhile is raised."""
        await self._begin()
        beside = asyncio.create_task(self._first_catch_up())
        tasks = [asyncio.create_task(work) for work in (*map(self._follow, FACT_KINDS), self._follow_letters(), self._commit(), self._until_lost())]
        try:
            done, _ = await asyncio.wait({stop, *tasks}, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in (beside, *tasks):
                task.cancel()
            await asyncio.gather(beside, *tasks, return_exceptions=True)
            self._db.commit()

    async def catch_up(self, seconds: float = 20.0) -> None:
        """Waits until everything that the streams hold now is in the read model: what was said before a call is seen by it.

        Raises:
            UnreachableError: the read model is still behind after ``seconds``.
        """
        heads = await self._heads()
        deadline = asyncio.get_running_loop().time() + seconds
        while behind := [s for s, head in heads.items() if self._positions.get(s, 0) < head.sequence]:
            time = asyncio.get_running_loop().time()
            if self._idle() and await self._nothing_left(behind):
                return
            if time > deadline:
                raise UnreachableError(f"the console has not read {', '.join(behind)} to the end within {seconds:.0f} s; it is rebuilding, try again")
            async with self._applied:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._applied.wait(), 0.2)

    def _idle(self) -> bool:
        """Whether nothing has come for a while: a read model that is being rebuilt is behind, and not stuck."""
        return asyncio.get_running_loop().time() - self._last_applied > _QUIET_SECONDS

    async def _nothing_left(self, streams: list[str]) -> bool:
        """Whether those streams hold no message beyond what was applied: their last ones were purged."""
        for stream in streams:
            state = (await self._bus.js.stream_info(stream)).state
            if state.messages and state.first_seq <= state.last_seq and await self._holds_beyond(stream, self._positions.get(stream, 0)):
                return False
        return True

    async def _holds_beyond(self, stream: str, sequence: int) -> bool:
        try:
            await self._bus.js.get_msg(stream, seq=sequence + 1, next=True, subject=">")
        except NotFoundError:
            return False
        return True

    async def _begin(self) -> None:
        """Reads how far the read model has come; empties it when it was built from other streams than today's."""
        heads = await self._heads()
        known = {row["stream"]: row for row in self._db.execute("SELECT * FROM positions")}
        foreign = [s for s, row in known.items() if row["created"] != heads[s].created or row["sequence"] > heads[s].sequence]
        if foreign:
            log.warning("%s was made anew: so is the read model", ", ".join(foreign))
            reset(self._db)
            self.projection.changes += 1
            known = {}
        self.caught_up = False
        self._positions = {s: known[s]["sequence"] if s in known else 0 for s in _STREAMS}
        for stream, head in heads.items():
            self._db.execute("INSERT OR IGNORE INTO positions VALUES (?, ?, 0)", (stream, head.created))
        self._db.commit()

    async def _heads(self) -> dict[str, _Head]:
        infos = await asyncio.gather(*(self._bus.js.stream_info(s) for s in _STREAMS))
        return {s: _Head(str(info.created), info.state.last_seq) for s, info in zip(_STREAMS, infos, strict=True)}

    async def _follow(self, kind: str) -> None:
        stream = facts_stream(kind)
        async for stored in self._facts.follow(FACT_KINDS[kind], after=self._positions[stream]):
            self.projection.apply(stored.fact, stored.sequence)
            await self._advance(stream, stored.sequence)

    async def _follow_letters(self) -> None:
        async for letter, sequence in self._letters(self._positions[DEAD]):
            self.projection.letter(letter, sequence)
            await self._advance(DEAD, sequence)

    async def _letters(self, after: int) -> AsyncIterator[tuple[facts_pb2.DeadLetter, int]]:
        config = ConsumerConfig(deliver_policy=DeliverPolicy.BY_START_SEQUENCE, opt_start_seq=after + 1, ack_policy=AckPolicy.NONE)
        subscription = await self._bus.js.subscribe("cosmop.dead.>", stream=DEAD, ordered_consumer=True, config=config)
        try:
            while True:
                message = await subscription.next_msg(timeout=None)
                yield facts_pb2.DeadLetter.FromString(message.data), message.metadata.sequence.stream
        finally:
            await subscription.unsubscribe()

    async def _advance(self, stream: str, sequence: int) -> None:
        self._positions[stream] = sequence
        self._db.execute("UPDATE positions SET sequence = ? WHERE stream = ?", (sequence, stream))
        self._last_applied = asyncio.get_running_loop().time()
        async with self._applied:
            self._applied.notify_all()
        if self.projection.changes % _SLICE == 0:
            await asyncio.sleep(0)

    async def _commit(self) -> None:
        """Commits what was applied, with its positions, a few times a second: one commit a fact would cost ten times as much."""
        while True:
            await asyncio.sleep(_COMMIT_SECONDS)
            self._db.commit()

    async def _first_catch_up(self) -> None:
        await self.catch_up(seconds=float("inf"))
        self.caught_up = True

    async def _until_lost(self) -> None:
        """Returns when this round no longer follows: a stream is another one, or its messages have ceased to come.

        The server forgets the consumers that follow (a restart, a long absence), and the client notices late, if at all (20 s measured).
        """
        created = {row["stream"]: row["created"] for row in self._db.execute("SELECT stream, created FROM positions")}
        before: dict[str, _Head] = {}
        while True:
            await asyncio.sleep(_CHECK_SECONDS)
            try:
                heads = await self._heads()
                if any(head.created != created[stream] for stream, head in heads.items()):
                    return
                stuck = [s for s, head in before.items() if self._positions[s] < head.sequence and self._idle()]
                before = heads
                if stuck and not await self._nothing_left(stuck):
                    log.warning("%s: nothing comes although there is more; following anew", ", ".join(stuck))
                    return
            except (TimeoutError, nats.errors.Error) as error:
                log.warning("the streams cannot be looked at now: %r", error)
