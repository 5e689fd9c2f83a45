"""Dynamic batching that knows deadlines: requests in, prepared in a pool of threads, run together, answered one by one.

A request is admitted or refused at once: between admission and answer there are never more than ``max_pending``, so that
under overload the queue stays short and goodput stays up (Welsh and Culler, "Adaptive Overload Control for Busy Internet
Servers", USITS 2003). One that the queue would keep past its deadline is refused as well, so that nothing is spent on answers
that nobody waits for any more; one whose deadline passes while it waits is dropped. While a batch runs the next one gathers, so that
``max_wait`` matters only when there is little to do.

The worker lives while there is work: nothing to start, nothing to close, and a batcher that nobody uses is simply collected.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Generic, TypeVar

import grpc
from cosmop_common.errors import CosmopError

T = TypeVar("T")
P = TypeVar("P")
R = TypeVar("R")

_SMOOTHING = 0.2
#: Of the time that a caller has left, the share that the queue may take: its pace is an estimate.
_PATIENCE = 0.7
#: Seconds that the queue is said to take before anything is known of its pace.
_UNKNOWN = 0.1


class QueueFullError(CosmopError):
    """As much is waiting as may wait. Status: RESOURCE_EXHAUSTED.

    Attributes:
        retry_after: seconds after which trying again makes sense.
    """

    grpc_code = grpc.StatusCode.RESOURCE_EXHAUSTED

    def __init__(self, pending: int, retry_after: float, why: str = "no more are taken") -> None:
        super().__init__(f"{pending} requests are waiting, {why}: try again in {retry_after:.2f} s, or run more classifiers")
        self.retry_after = retry_after


class DeadlinePassedError(CosmopError):
    """The caller's deadline passed before the request's turn came. Status: DEADLINE_EXCEEDED."""

    grpc_code = grpc.StatusCode.DEADLINE_EXCEEDED


@dataclass
class _Entry(Generic[P, R]):
    item: P
    deadline: float
    future: asyncio.Future[R]


class Batcher(Generic[T, P, R]):
    """Runs single requests in batches.

    Args:
        prepare: one request to what is batched (decode, resize); called in ``pool``.
        run: a batch to its answers, in order; called in ``device``, one batch at a time.
        pool: threads of ``prepare``.
        device: threads of ``run``, shared by all batchers of a device.
        max_batch: largest batch.
        max_wait: seconds that the first of a batch waits for others.
        max_pending: requests between admission and answer.
    """

    def __init__(
        self,
        prepare: Callable[[T], P],
        run: Callable[[list[P]], Sequence[R]],
        *,
        pool: ThreadPoolExecutor,
        device: ThreadPoolExecutor,
        max_batch: int = 16,
        max_wait: float = 0.002,
        max_pending: int = 128,
    ) -> None:
        self._prepare, self._run = prepare, run
        self._pool, self._device = pool, device
        self._max_batch, self._max_wait, self._max_pending = max_batch, max_wait, max_pending
        self._queue: deque[_Entry[P, R]] = deque()
        self._arrived = asyncio.Event()
        self._worker: asyncio.Task[None] | None = None
        self._pending = 0
        #: Seconds that max_batch requests take from end to end while there is more to do than that; and since when there is something.
        self._cycle = 0.0
        self._busy_since = 0.0
        #: Seconds that ``run`` takes for one request of a batch.
        self._each = 0.0

    @property
    def pending(self) -> int:
        """Requests between admission and answer."""
        return self._pending

    async def submit(self, request: T, *, deadline: float = float("inf")) -> R:
        """The answer to one request.

        Args:
            deadline: on ``time.monotonic``'s clock.

        Raises:
            QueueFullError: refused at once: no room, or no time before the deadline.
            DeadlinePassedError: dropped while it waited.
            Exception: whatever ``prepare`` or ``run`` raised.
        """
        self._admit(deadline)
        self._pending += 1
        try:
            loop = asyncio.get_running_loop()
            item = await loop.run_in_executor(self._pool, self._prepare_in_time, request, deadline)
            entry: _Entry[P, R] = _Entry(item, deadline, loop.create_future())
            self._queue.append(entry)
            self._arrived.set()
            if self._worker is None or self._worker.done():
                self._worker = asyncio.create_task(self._work())
            return await entry.future
        finally:
            self._pending -= 1

    def wait_seconds(self) -> float:
        """How long what is pending will take, from the pace of the last batches."""
        return max(0.01, self._cycle * -(-self._pending // self._max_batch)) if self._cycle else _UNKNOWN

    def _admit(self, deadline: float) -> None:
        """Refuses at once what the queue has no room for, or no time."""
        now, wait = time.monotonic(), self.wait_seconds()
        if self._pending >= self._max_pending:
            raise QueueFullError(self._pending, wait)
        # Less than a batch is no queue: what is known of its pace is too little to turn anybody away for.
        left = deadline - now
        if self._pending >= self._max_batch and 0 < left < wait / _PATIENCE:
            raise QueueFullError(self._pending, max(0.01, wait - _PATIENCE * left), f"{wait:.2f} s of work, too much for a deadline of {left:.2f} s")
        if not self._pending:
            self._busy_since = now

    def _prepare_in_time(self, request: T, deadline: float) -> P:
        if time.monotonic() > deadline:
            raise DeadlinePassedError("the deadline passed before the image was decoded: allow more time, or send less at once")
        return self._prepare(request)

    async def _work(self) -> None:
        while self._queue:
            batch = await self._gather()
            if not batch:
                continue
            started = time.monotonic()
            try:
                answers = await asyncio.get_running_loop().run_in_executor(self._device, self._run, [e.item for e in batch])
                if len(answers) != len(batch):
                    raise RuntimeError(f"{len(answers)} answers to {len(batch)} requests")
            except Exception as error:  # noqa: BLE001 - whoever waits must hear of it
                _settle(batch, error)
                continue
            self._learn(len(batch), started, time.monotonic())
            for entry, answer in zip(batch, answers, strict=True):
                if not entry.future.done():
                    entry.future.set_result(answer)
            # The answered leave before the next batch counts who is still pending.
            await asyncio.sleep(0)

    def _learn(self, size: int, started: float, ended: float) -> None:
        """Takes in how long a batch took, and how long it was since the one before: decoding is part of the pace as well."""
        self._each = _smooth(self._each, (ended - started) / size)
        if self._pending >= self._max_batch or not self._cycle:
            self._cycle = _smooth(self._cycle, (ended - self._busy_since) * (self._max_batch / size if self._pending >= self._max_batch else 1))
        self._busy_since = ended

    async def _gather(self) -> list[_Entry[P, R]]:
        """Takes up to ``max_batch`` requests that somebody still waits for, and that can be answered in time."""
        until = time.monotonic() + self._max_wait
        # Once all that were admitted are here, waiting longer would only be for requests that may never come.
        while len(self._queue) < min(self._max_batch, self._pending) and (left := until - time.monotonic()) > 0:
            self._arrived.clear()
            try:
                await asyncio.wait_for(self._arrived.wait(), left)
            except TimeoutError:
                break
        batch: list[_Entry[P, R]] = []
        now = time.monotonic()
        while self._queue and len(batch) < self._max_batch:
            entry = self._queue.popleft()
            if entry.future.done():
                continue
            if now + self._each > entry.deadline:
                entry.future.set_exception(
                    DeadlinePassedError("the deadline passed while the image waited for its turn: allow more time, or send less at once")
                )
                continue
            batch.append(entry)
        return batch


def _smooth(before: float, now: float) -> float:
    return now if not before else (1 - _SMOOTHING) * before + _SMOOTHING * now


def _settle(batch: Sequence[_Entry[P, R]], error: Exception) -> None:
    for entry in batch:
        if not entry.future.done():
            entry.future.set_exception(error)
