"""Plots of a run that are drawn when a page asks for them, from what the run has stored up to then."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from cosmop_common.errors import NotFoundError
from cosmop_common.store import Store

from cosmop_console.training import Curves, Measured, find_gan, measured

Draw = Callable[[Store, str], Awaitable[str]]


async def curves(store: Store, run: str) -> str:
    """Losses, penalty and p over kimg (SVG). Raises ``NotFoundError``."""
    found = await Curves.find(store, run)
    if found is None:
        raise NotFoundError(f"run {run!r} has no curves: they are written with its first snapshot, and by the GAN trainer alone")
    record = await find_gan(store, run)
    settings = record.settings if record else {}

    def draw() -> str:
        # The plotting library takes a second to load: only when something is drawn.
        from cosmop_console.report import plots, plots_training

        return plots.standalone(plots_training.training(found.kimg, found.values, settings))

    return await asyncio.to_thread(draw)


async def measure(store: Store, run: str) -> str:
    """The snapshots' first measure over kimg (SVG). Raises ``NotFoundError``."""
    found = await measured(store, run)
    if found is None:
        raise NotFoundError(f"no snapshot of run {run!r} has been evaluated")
    record = await find_gan(store, run)
    return await asyncio.to_thread(_measure, found, record.best if record else None)


def _measure(found: Measured, best: float | None) -> str:
    from cosmop_console.report import pages, plots

    kimg, values, intervals = zip(*found.points, strict=True)
    return plots.standalone(plots.curve(list(kimg), list(values), list(intervals), metric=pages.measure(found.metric), best=best))


BY_NAME: dict[str, Draw] = {"curves": curves, "measure": measure}
