"""Work on a stream several at once, answers in the order of the requests."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeVar

A = TypeVar("A")
B = TypeVar("B")


async def in_order(work: Callable[[A], Awaitable[B]], requests: AsyncIterator[A], *, ahead: int = 32) -> AsyncIterator[B]:
    """``work`` of each request, at most ``ahead`` at once; the first failure ends the stream, in its turn."""
    pending: deque[asyncio.Future[B]] = deque()
    try:
        async for request in requests:
            pending.append(asyncio.ensure_future(work(request)))
            while pending and (len(pending) >= ahead or pending[0].done()):
                yield await pending.popleft()
        while pending:
            yield await pending.popleft()
    finally:
        for future in pending:
            future.cancel()
        await asyncio.gather(*pending, return_exceptions=True)
