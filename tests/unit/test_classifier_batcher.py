"""The batcher: every request has its own answer, the bounds hold, deadlines are kept."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest
from cosmop_classifier.batcher import Batcher, DeadlinePassedError, QueueFullError
from hypothesis import given, settings
from hypothesis import strategies as st


class Network:
    """Doubles numbers, slowly, and remembers its batches."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds, self.batches, self.running, self.gate = seconds, [], 0, threading.Event()
        self.gate.set()

    def __call__(self, batch: list[int]) -> list[int]:
        self.running += 1
        assert self.running == 1, "two batches at once"
        assert self.gate.wait(120)
        time.sleep(self.seconds)
        self.batches.append(list(batch))
        self.running -= 1
        return [2 * x for x in batch]


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not holds():  # noqa: ASYNC110 - threads work beside
            await asyncio.sleep(0.002)


@pytest.fixture
def threads() -> Iterator[dict[str, ThreadPoolExecutor]]:
    pool, device = ThreadPoolExecutor(3), ThreadPoolExecutor(1)
    yield {"pool": pool, "device": device}
    pool.shutdown()
    device.shutdown()


@settings(max_examples=20, deadline=None)
@given(st.lists(st.floats(0, 0.01), min_size=1, max_size=40), st.integers(1, 8))
def test_everybody_gets_his_own_answer_and_batches_keep_their_bound(pauses: list[float], max_batch: int) -> None:
    network = Network(0.001)

    async def main() -> list[int]:
        with ThreadPoolExecutor(3) as pool, ThreadPoolExecutor(1) as device:
            batcher = Batcher(lambda x: x, network, pool=pool, device=device, max_batch=max_batch)

            async def ask(number: int, pause: float) -> int:
                await asyncio.sleep(pause)
                return await batcher.submit(number)

            answers = await asyncio.gather(*(ask(i, p) for i, p in enumerate(pauses)))
            assert batcher.pending == 0
            return answers

    assert asyncio.run(main()) == [2 * i for i in range(len(pauses))]
    assert max(map(len, network.batches)) <= max_batch
    assert sorted(x for b in network.batches for x in b) == list(range(len(pauses)))


async def test_what_waits_is_run_together(threads) -> None:
    network = Network()
    network.gate.clear()
    batcher = Batcher(lambda x: x, network, **threads, max_batch=8)
    first = asyncio.create_task(batcher.submit(0))
    await until(lambda: network.running == 1)
    others = [asyncio.create_task(batcher.submit(i)) for i in range(1, 9)]
    await until(lambda: len(batcher._queue) == 8)
    network.gate.set()
    await asyncio.gather(first, *others)
    assert [len(b) for b in network.batches] == [1, 8]


async def test_beyond_the_bound_the_answer_is_no_at_once_and_then_yes_again(threads) -> None:
    network = Network()
    network.gate.clear()
    batcher = Batcher(lambda x: x, network, **threads, max_pending=4)
    taken = [asyncio.create_task(batcher.submit(i)) for i in range(4)]
    await until(lambda: batcher.pending == 4)
    with pytest.raises(QueueFullError, match="4 requests are waiting") as refused:
        await batcher.submit(5)
    assert not any(task.done() for task in taken), "at once: nothing has been answered meanwhile"
    assert refused.value.retry_after > 0
    network.gate.set()
    await asyncio.gather(*taken)
    assert await batcher.submit(6) == 12


async def test_what_the_queue_would_keep_too_long_is_refused_at_once(threads, monkeypatch: pytest.MonkeyPatch) -> None:
    """A queue of half a second and callers with a tenth: answering them would be work that nobody waits for."""
    network = Network(0.05)
    batcher = Batcher(lambda x: x, network, **threads, max_batch=2)
    await asyncio.gather(*(batcher.submit(i) for i in range(10)))
    # A batch has been seen to take 50 ms, or longer on a slow machine. Now nothing moves, and then not even time.
    network.gate.clear()
    waiting = [asyncio.create_task(batcher.submit(i)) for i in range(20)]
    await until(lambda: batcher.pending == 20)
    now = time.monotonic()
    with monkeypatch.context() as frozen:
        frozen.setattr("cosmop_classifier.batcher.time", SimpleNamespace(monotonic=lambda: now))
        with pytest.raises(QueueFullError, match=r"too much for a deadline of 0\.10 s") as refused:
            await batcher.submit(99, deadline=now + 0.1)
    assert refused.value.retry_after > 0.1
    network.gate.set()
    assert await batcher.submit(100, deadline=time.monotonic() + 600) == 200
    await asyncio.gather(*waiting)
    assert 99 not in [x for b in network.batches for x in b]


async def test_a_short_deadline_is_no_reason_to_refuse_while_there_is_no_queue(threads) -> None:
    batcher = Batcher(lambda x: x, Network(0.02), **threads, max_batch=4)
    await asyncio.gather(*(batcher.submit(i) for i in range(3)))
    assert await batcher.submit(7, deadline=time.monotonic() + 60) == 14


async def test_what_is_past_its_deadline_is_never_run(threads) -> None:
    network = Network()
    network.gate.clear()
    batcher = Batcher(lambda x: x, network, **threads)
    first = asyncio.create_task(batcher.submit(0))
    await until(lambda: network.running == 1)
    late = asyncio.create_task(batcher.submit(1, deadline=time.monotonic() + 600))
    await until(lambda: len(batcher._queue) == 1)
    batcher._queue[0].deadline = time.monotonic()  # ten minutes later
    kept = asyncio.create_task(batcher.submit(2, deadline=time.monotonic() + 600))
    await until(lambda: len(batcher._queue) == 2)
    network.gate.set()
    with pytest.raises(DeadlinePassedError, match="waited for its turn"):
        await late
    assert await kept == 4
    assert await first == 0
    assert [x for b in network.batches for x in b] == [0, 2]


async def test_an_expired_request_is_not_even_decoded(threads) -> None:
    decoded = []
    batcher = Batcher(decoded.append, Network(), **threads)
    with pytest.raises(DeadlinePassedError, match="before the image was decoded"):
        await batcher.submit(1, deadline=time.monotonic() - 1)
    assert not decoded


async def test_a_caller_who_leaves_costs_nothing(threads) -> None:
    network = Network()
    network.gate.clear()
    batcher = Batcher(lambda x: x, network, **threads)
    first = asyncio.create_task(batcher.submit(0))
    await until(lambda: network.running == 1)
    gone = asyncio.create_task(batcher.submit(1))
    await until(lambda: len(batcher._queue) == 1)
    gone.cancel()
    network.gate.set()
    assert await first == 0
    assert await batcher.submit(2) == 4
    assert [x for b in network.batches for x in b] == [0, 2]
    assert batcher.pending == 0


async def test_a_bad_image_fails_alone_and_a_bad_batch_fails_whole(threads) -> None:
    def prepare(x: int) -> int:
        if x < 0:
            raise ValueError("no image")
        return x

    def run(batch: list[int]) -> list[int]:
        if 13 in batch:
            raise RuntimeError("out of memory")
        return batch

    batcher = Batcher(prepare, run, **threads)
    answers = await asyncio.gather(*(batcher.submit(x) for x in (1, -1, 2)), return_exceptions=True)
    assert [answers[0], answers[2]] == [1, 2]
    assert isinstance(answers[1], ValueError)
    with pytest.raises(RuntimeError, match="out of memory"):
        await batcher.submit(13)
    assert await batcher.submit(3) == 3


async def test_a_network_that_loses_answers_is_found_out(threads) -> None:
    with pytest.raises(RuntimeError, match="0 answers to 1 requests"):
        await Batcher(lambda x: x, lambda _: [], **threads).submit(1)


async def test_overload_keeps_goodput(threads) -> None:
    """Three times the capacity for fifty batches: what is taken is answered at capacity, the rest is refused, nothing hangs."""
    network = Network()
    batcher = Batcher(lambda x: x, network, **threads, max_batch=4, max_wait=30, max_pending=8)
    done, refused = 0, 0

    async def ask(number: int) -> None:
        nonlocal done, refused
        try:
            await batcher.submit(number)
            done += 1
        except QueueFullError:
            refused += 1

    tasks = []
    for batches in range(50):
        tasks += [asyncio.create_task(ask(len(tasks) + i)) for i in range(12)]
        await until(lambda batches=batches: len(network.batches) > batches)
    await asyncio.wait_for(asyncio.gather(*tasks), 60)
    assert done + refused == len(tasks)
    assert refused > 0
    assert done >= 50 * 4
    full = sum(len(b) == 4 for b in network.batches)
    assert full >= 0.8 * len(network.batches)
