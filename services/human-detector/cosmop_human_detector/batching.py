"""Images that arrive one by one, scored in batches: the network sees several at once, each caller gets its own score."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor

import numpy as np
from numpy.typing import NDArray

Score = Callable[[NDArray[np.float32]], NDArray[np.float64]]


class Batcher:
    """Gathers arrays of one shape until a batch is full or its first has waited long enough; scores one batch at a time.

    While a batch is being scored the next one gathers, so that batches grow with the load.
    """

    def __init__(self, score: Score, executor: Executor, *, size: int, seconds: float) -> None:
        """Starts nothing yet.

        Args:
            score: N arrays to N scores; blocking, runs in ``executor``.
            size: the largest batch.
            seconds: how long the first of a batch waits for others.
        """
        self._score = score
        self._executor = executor
        self._size = size
        self._seconds = seconds
        self._queue: asyncio.Queue[tuple[NDArray[np.float32], asyncio.Future[float]]] = asyncio.Queue()
        self._task: asyncio.Task[None] | None = None

    async def score(self, array: NDArray[np.float32]) -> float:
        """The score of one array. Raises what scoring its batch raised."""
        if self._task is None:
            self._task = asyncio.create_task(self._run())
        future: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        self._queue.put_nowait((array, future))
        return await future

    async def close(self) -> None:
        """Ends; whoever still waits is cancelled."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        while not self._queue.empty():
            self._queue.get_nowait()[1].cancel()

    async def _run(self) -> None:
        while True:
            batch = [await self._queue.get()]
            if self._queue.qsize() < self._size - 1:
                await asyncio.sleep(self._seconds)
            while len(batch) < self._size and not self._queue.empty():
                batch.append(self._queue.get_nowait())
            wanted = [(array, future) for array, future in batch if not future.done()]
            if wanted:
                await self._score_batch(wanted)

    async def _score_batch(self, batch: list[tuple[NDArray[np.float32], asyncio.Future[float]]]) -> None:
        futures = [future for _, future in batch]
        try:
            stacked = np.stack([array for array, _ in batch])
            scores = await asyncio.get_running_loop().run_in_executor(self._executor, self._score, stacked)
        except asyncio.CancelledError:
            for future in futures:
                future.cancel()
            raise
        except Exception as error:  # noqa: BLE001 - each caller of the batch gets it
            for future in futures:
                if not future.done():
                    future.set_exception(error)
            return
        for future, score in zip(futures, scores, strict=True):
            if not future.done():
                future.set_result(float(score))
