"""How a worker consumes: one message in, one fact out, and nothing ends in silence.

Measured facts behind it (docs/architecture.md): ``fetch(1)`` in N tasks (larger fetches stall after an idle time-out),
both time-out classes caught, the heartbeat at a third of the wait, ``nak`` with a delay of its own, the dead letter
before ``term``.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

import nats.errors
from google.protobuf.message import DecodeError, Message
from nats.aio.msg import Msg

from cosmop_common.bus import Bus
from cosmop_common.errors import CosmopError, UnreachableError
from cosmop_common.facts import now
from cosmop_common.pb.cosmop.v1 import facts_pb2
from cosmop_common.settings import ConnectionSettings
from cosmop_common.tasks import end_tasks
from cosmop_common.telemetry import MESSAGE_SECONDS, MESSAGES
from cosmop_common.topology import CONSUMERS

log = logging.getLogger(__name__)
M = TypeVar("M", bound=Message)

_IDLE_SECONDS = 5.0
_BACKOFF = (1.0, 5.0, 15.0, 30.0)


@dataclass(frozen=True)
class Delivery:
    """Where a message came from."""

    subject: str
    #: Stream sequence: the ``cause`` of the facts that follow.
    sequence: int
    #: 1 for the first delivery.
    attempt: int


Handler = Callable[[M, Delivery], Awaitable[None]]


async def consume(
    bus: Bus,
    consumer: str,
    message_class: type[M],
    handler: Handler[M],
    *,
    settings: ConnectionSettings,
    stopping: asyncio.Event,
    concurrency: int = 1,
) -> None:
    """Feeds messages of a durable consumer to ``handler`` until ``stopping``, then finishes those in flight.

    A handler that returns has published its facts: the message is acknowledged. One that raises gets the message again
    after a delay, up to ``settings.max_attempts`` times (once, if the error is permanent); then it is a dead letter.
    """
    await asyncio.gather(*(_pull(bus, consumer, message_class, handler, settings, stopping) for _ in range(concurrency)))


async def fetch_one(bus: Bus, consumer: str, stopping: asyncio.Event) -> AsyncIterator[Msg]:
    """Messages of a durable consumer, one at a time, until ``stopping``."""
    spec = CONSUMERS[consumer]
    subscription = await bus.js.pull_subscribe_bind(durable=spec.name, stream=spec.stream)
    try:
        while not stopping.is_set():
            fetch = asyncio.ensure_future(subscription.fetch(1, timeout=_IDLE_SECONDS))
            stop = asyncio.ensure_future(stopping.wait())
            await asyncio.wait({fetch, stop}, return_when=asyncio.FIRST_COMPLETED)
            stop.cancel()
            if not fetch.done():
                fetch.cancel()
            try:
                messages = await fetch
            except (asyncio.CancelledError, TimeoutError, nats.errors.TimeoutError):
                continue
            except (nats.errors.Error, OSError) as error:
                log.warning("fetching from %s failed, trying again: %r", consumer, error)
                await asyncio.sleep(1)
                continue
            for message in messages:
                yield message
    finally:
        # The request of a cancelled fetch still stands at the server: without this it would take a message that nobody reads.
        with contextlib.suppress(nats.errors.Error):
            await subscription.unsubscribe()


async def _pull(bus: Bus, consumer: str, message_class: type[M], handler: Handler[M], settings: ConnectionSettings, stopping: asyncio.Event) -> None:
    async for message in fetch_one(bus, consumer, stopping):
        attempt = message.metadata.num_delivered
        delivery = Delivery(message.subject, message.metadata.sequence.stream, attempt)
        started = time.perf_counter()
        outcome = "done"
        try:
            if attempt > settings.max_attempts:
                # It killed its workers before they could say so.
                raise PoisonError(f"delivered {attempt - 1} times with no outcome")
            body = message_class.FromString(message.data)
            async with heartbeat(message, settings.ack_wait / 3):
                await handler(body, delivery)
            await message.ack()
        except Exception as error:  # noqa: BLE001 - whatever a handler raises, its message needs an outcome
            outcome = await _failed(bus, consumer, message, error, attempt, settings)
        MESSAGES.labels(consumer, outcome).inc()
        MESSAGE_SECONDS.labels(consumer).observe(time.perf_counter() - started)


class PoisonError(CosmopError):
    """A message whose every delivery ended without an outcome."""

    permanent = True


async def _failed(bus: Bus, consumer: str, message: Msg, error: Exception, attempt: int, settings: ConnectionSettings) -> str:
    permanent = isinstance(error, DecodeError) or (isinstance(error, CosmopError) and error.permanent)
    if not permanent and attempt < settings.max_attempts:
        delay = _BACKOFF[min(attempt, len(_BACKOFF)) - 1]
        log.warning(
            "%s: attempt %d of %s failed, again in %.0f s: %s", consumer, attempt, message.subject, delay, error, exc_info=not isinstance(error, CosmopError)
        )
        with contextlib.suppress(nats.errors.Error):
            await message.nak(delay=delay)
        return "retried"
    log.error("%s: %s goes to the dead letters: %s", consumer, message.subject, error, exc_info=not isinstance(error, CosmopError))
    await bury(bus, consumer, message, str(error) or type(error).__name__)
    return "dead"


async def bury(bus: Bus, consumer: str, message: Msg, reason: str) -> None:
    """Puts a message among the dead letters, then takes it off its consumer. Poison never blocks the queue."""
    metadata = message.metadata
    tokens = message.subject.split(".")
    is_fact = tokens[1] == "facts"
    letter = facts_pb2.DeadLetter(
        service=consumer,
        consumer=consumer,
        subject=message.subject,
        sequence=metadata.sequence.stream,
        payload=message.data,
        reason=reason,
        attempts=metadata.num_delivered,
        at=now(),
        collection=tokens[3] if is_fact else "",
        image=tokens[4] if is_fact else "",
    )
    headers = {"Nats-Msg-Id": f"{consumer}:{message.subject}@{metadata.sequence.stream}"}
    try:
        await bus.js.publish(f"cosmop.dead.{consumer}", letter.SerializeToString(), headers=headers, timeout=5)
    except (TimeoutError, nats.errors.Error) as error:
        # Not buried: leave it with the consumer, it will come again.
        raise UnreachableError(f"no dead letter could be written for {message.subject}: {error}") from error
    await message.term()


@contextlib.asynccontextmanager
async def heartbeat(message: Msg, seconds: float) -> AsyncIterator[None]:
    """Tells the server every ``seconds`` that the message is still being worked on."""

    async def beat() -> None:
        while True:
            await asyncio.sleep(seconds)
            with contextlib.suppress(nats.errors.Error):
                await message.in_progress()

    task = asyncio.create_task(beat())
    try:
        yield
    finally:
        await end_tasks([task])
