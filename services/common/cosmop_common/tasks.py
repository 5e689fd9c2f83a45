"""Ending asyncio tasks for sure."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any


async def end_tasks(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Cancels tasks until they have ended, whatever they raise.

    Once is not enough: ``asyncio.wait_for`` of Python 3.11 swallows a cancellation that meets its result, and the NATS
    client waits with it everywhere.
    """
    left = set(tasks)
    while left:
        for task in left:
            task.cancel()
        _, left = await asyncio.wait(left, timeout=0.5)
