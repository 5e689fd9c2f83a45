"""How one knows that a process is ready."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import httpx


def threaded(check: Callable[[], bool]) -> Callable[[], Awaitable[bool]]:
    """A blocking check, off the event loop."""

    async def ready() -> bool:
        return await asyncio.to_thread(check)

    return ready


def answers(url: str) -> Callable[[], Awaitable[bool]]:
    """Whether a page answers with status 200."""

    async def ready() -> bool:
        try:
            # A proxy of the environment is for the internet.
            async with httpx.AsyncClient(trust_env=False, timeout=5) as client:
                return (await client.get(url)).status_code == httpx.codes.OK
        except httpx.HTTPError:
            return False

    return ready
