"""Facts on NATS: publishing with compare-and-set, reading the last value, replaying and following.

Three promises (docs/architecture.md):

- A fact that says what is already said is not published again.
- A late retry never turns a newer value back: the last sequence of the subject is expected, and a fact whose ``cause``
  is older than the stored one's is dropped.
- The message id names the transition (subject and expected sequence), so that a label that goes A, B, A within the
  server's dedupe window keeps its third word.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, cast

import nats.errors
from google.protobuf.timestamp_pb2 import Timestamp
from nats.aio.msg import Msg
from nats.js import JetStreamContext
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy
from nats.js.errors import APIError, BadRequestError, NoStreamResponseError, NotFoundError, ServiceUnavailableError

from cosmop_common.bus import Bus
from cosmop_common.errors import StorageFullError, UnreachableError
from cosmop_common.names import FACT_KINDS, Fact, fact_subject, facts_stream, kind_of, subject_of, token

log = logging.getLogger(__name__)
F = TypeVar("F", bound=Fact)

_WRONG_LAST_SEQUENCE = 10071
_STORE_FULL = {10077, 10023, 10047}
_ATTEMPTS = 20
_REPLY_TOKENS = 9


@dataclass(frozen=True)
class Stored(Generic[F]):
    """A fact as the stream holds it."""

    fact: F
    #: Stream sequence.
    sequence: int


def now() -> Timestamp:
    """The time, as facts carry it."""
    stamp = Timestamp()
    stamp.GetCurrentTime()
    return stamp


def same_value(a: Fact, b: Fact) -> bool:
    """Whether two facts say the same: all but when they were said, and what caused them."""
    return _bare(a) == _bare(b)


def _bare(fact: Fact) -> bytes:
    copy = type(fact)()
    copy.CopyFrom(fact)  # type: ignore[arg-type]
    for field in ("at", "cause", "run"):
        if field in copy.DESCRIPTOR.fields_by_name:
            copy.ClearField(cast("Any", field))
    return copy.SerializeToString(deterministic=True)


class Facts:
    """Reads and writes facts."""

    def __init__(self, bus: Bus) -> None:
        self._js = bus.js

    async def create(self, fact: Fact) -> bool:
        """Publishes a fact unless its subject has one already. Returns whether it was published."""
        return await self._publish(fact, expected=0)

    async def put(self, fact: Fact) -> bool:
        """Makes ``fact`` the last value of its subject. Returns False when it said nothing new, or came late."""
        subject = fact_subject(fact)
        kind = kind_of(fact)
        for _ in range(_ATTEMPTS):
            last = await self._last(kind, subject)
            if last is not None:
                if same_value(last.fact, fact):
                    return False
                if _order(fact) < _order(last.fact):
                    log.info("a late fact is dropped", extra={"subject": subject})
                    return False
            if await self._publish(fact, expected=last.sequence if last else 0):
                return True
        raise UnreachableError(f"{subject}: somebody else changed it {_ATTEMPTS} times meanwhile; try again")

    async def last(self, kind: type[F], collection: str, image: str, *more: str) -> Stored[F] | None:
        """The last value, or None."""
        name = kind_of(kind)
        return cast("Stored[F] | None", await self._last(name, subject_of(name, collection, image, *more)))

    async def replay(self, kind: type[F], collection: str | None = None) -> AsyncIterator[Stored[F]]:
        """All last values of a kind that the stream holds now, oldest change first."""
        name = kind_of(kind)
        end = (await self._js.stream_info(facts_stream(name))).state.last_seq
        if end:
            async for stored in self._read(name, collection, DeliverPolicy.ALL, until=end):
                yield cast("Stored[F]", stored)

    async def follow(self, kind: type[F], collection: str | None = None, after: int = 0) -> AsyncIterator[Stored[F]]:
        """All last values with a sequence above ``after``, then each new one, without end."""
        async for stored in self._read(kind_of(kind), collection, DeliverPolicy.BY_START_SEQUENCE, after=after):
            yield cast("Stored[F]", stored)

    async def _last(self, kind: str, subject: str) -> Stored[Fact] | None:
        # Asked of the stream's leader, not by direct get: a replica may lag behind its own last word.
        try:
            message = await self._js.get_last_msg(facts_stream(kind), subject)
        except NotFoundError:
            return None
        return Stored(FACT_KINDS[kind].FromString(message.data or b""), message.seq or 0)

    async def _publish(self, fact: Fact, expected: int) -> bool:
        subject = fact_subject(fact)
        headers = {
            "Nats-Msg-Id": f"{subject}@{expected}",
            "Nats-Expected-Last-Subject-Sequence": str(expected),
        }
        if not fact.HasField("at"):
            fact.at.CopyFrom(now())
        payload = fact.SerializeToString()
        for attempt in range(_ATTEMPTS):
            try:
                ack = await self._js.publish(subject, payload, headers=headers, timeout=5)
            except BadRequestError as error:
                if error.err_code != _WRONG_LAST_SEQUENCE:
                    raise
                # After a time-out it may be our own earlier try that stands there: then it was published all the same.
                last = await self._last(kind_of(fact), subject) if attempt else None
                return last is not None and last.fact == fact
            except (ServiceUnavailableError, APIError) as error:
                if error.err_code in _STORE_FULL:
                    raise StorageFullError(f"{facts_stream(kind_of(fact))} is full: raise COSMOP_STREAM_MAX_BYTES and run `cosmop provision`") from error
                raise
            except (TimeoutError, nats.errors.TimeoutError, NoStreamResponseError, nats.errors.NoRespondersError):
                # It may have been stored all the same: the same id again is then answered as a duplicate.
                await asyncio.sleep(min(0.1 * 2**attempt, 3.0))
                continue
            if ack.duplicate:
                # An earlier try of this transition is stored; it counts as ours only if it says the same.
                last = await self._last(kind_of(fact), subject)
                return last is not None and same_value(last.fact, fact)
            return True
        raise UnreachableError(f"{subject}: NATS took no message in {_ATTEMPTS} tries; is JetStream up, and was `cosmop provision` run?")

    async def _read(self, kind: str, collection: str | None, policy: DeliverPolicy, *, after: int = 0, until: int | None = None) -> AsyncIterator[Stored[Fact]]:
        subject = f"cosmop.facts.{kind}.{token(collection) if collection else '*'}.>"
        config = ConsumerConfig(
            deliver_policy=policy,
            opt_start_seq=after + 1 if policy is DeliverPolicy.BY_START_SEQUENCE else None,
            ack_policy=AckPolicy.NONE,
        )
        subscription = await self._js.subscribe(subject, stream=facts_stream(kind), ordered_consumer=True, config=config)
        message_class = FACT_KINDS[kind]
        pending = (await subscription.consumer_info()).num_pending if until is not None else 1
        delivered = (await subscription.consumer_info()).delivered if until is not None else None
        try:
            if not pending and not (delivered and delivered.consumer_seq):
                return
            while True:
                for message in await _arrived(subscription):
                    sequence, left = _place(message.reply)
                    yield Stored(message_class.FromString(message.data), sequence)
                    if until is not None and (left == 0 or sequence >= until):
                        return
        finally:
            await subscription.unsubscribe()


async def _arrived(subscription: JetStreamContext.PushSubscription) -> list[Msg]:
    """The next message, once it is there, and all that have come with it.

    ``next_msg`` makes a task for each message, at twice the time of all the rest; a callback would not hold the server back
    (nats.py answers flow control before it has run). So what lies in the queue is taken from it directly.
    """
    messages = [await subscription.next_msg(timeout=None)]
    queue = subscription._pending_queue  # noqa: SLF001
    while not queue.empty():
        messages.append(message := queue.get_nowait())
        subscription._pending_size -= len(message.data)  # noqa: SLF001
        queue.task_done()
    return messages


def _place(reply: str) -> tuple[int, int]:
    """Stream sequence of a message, and how many are left after it, from its reply subject (NATS ADR-15).

    ``message.metadata`` says the same, at a third of the time that reading a fact takes.
    """
    tokens = reply.split(".")
    # $JS.ACK[.<domain>.<account>].<stream>.<consumer>.<delivered>.<stream seq>.<consumer seq>.<time>.<pending>[.<random>]
    first = 2 if len(tokens) == _REPLY_TOKENS else 4
    return int(tokens[first + 3]), int(tokens[first + 6])


def _order(fact: Fact) -> int:
    """What "newer" means for a kind: the sequence of its cause; for labels, their time in milliseconds."""
    if hasattr(fact, "cause"):
        return int(fact.cause)
    if hasattr(fact, "ulid"):
        return int(fact.at.ToMilliseconds())
    return 0
