"""An event loop whose clock skips the waiting: what takes minutes by its own clock is tested at once, and no machine is too slow for it."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from types import SimpleNamespace
from typing import Any, TypeVar

import pytest

T = TypeVar("T")


class SkippingLoop(asyncio.SelectorEventLoop):
    """Its time stands still while there is something to do, and goes on to the next timer when there is nothing."""

    def __init__(self) -> None:
        self._now = 1000.0
        super().__init__(_Unwaiting(self))

    def time(self) -> float:
        return self._now


class _Unwaiting(selectors.DefaultSelector):
    def __init__(self, loop: SkippingLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        assert timeout is not None, "nothing is left that could ever happen"
        self._loop._now += max(0.0, timeout)
        return super().select(0)


def run_skipping(monkeypatch: pytest.MonkeyPatch, work: Coroutine[Any, Any, T], *modules: str) -> T:
    """Runs ``work`` on such a loop; in ``modules``, ``time.monotonic`` is the loop's time as well."""
    with asyncio.Runner(loop_factory=SkippingLoop) as runner:
        loop = runner.get_loop()
        for module in modules:
            monkeypatch.setattr(f"{module}.time", SimpleNamespace(monotonic=loop.time))
        return runner.run(work)
