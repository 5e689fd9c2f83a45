"""Shows a run while it works: a bar for each stage on a terminal, plain lines elsewhere."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable

import grpc
from cosmop_common.pb.cosmop.v1 import runs_pb2
from cosmop_common.runs import ENDED
from rich.console import Console
from rich.live import Live
from rich.table import Table

from cosmop_console.clients import Services

_LINE_SECONDS = 10.0
_AWAY_SECONDS = 120.0
_MARKS = {
    runs_pb2.RUN_STATE_QUEUED: "…", runs_pb2.RUN_STATE_RUNNING: "▸", runs_pb2.RUN_STATE_SUCCEEDED: "✓",
    runs_pb2.RUN_STATE_FAILED: "✗", runs_pb2.RUN_STATE_CANCELLED: "-",
}  # fmt: skip
_BAR = 24


async def watch(services: Services, run: str) -> runs_pb2.Run:
    """Shows a run until it ends; returns it. Any service's run, over the console."""
    console = Console()
    if not console.is_terminal:
        return await _until_ended(services, run, _Lines().show)
    with Live(console=console, refresh_per_second=4) as live:
        return await _until_ended(services, run, lambda state: live.update(_table(state)))


async def _until_ended(services: Services, run: str, show: Callable[[runs_pb2.Run], None]) -> runs_pb2.Run:
    """The run goes on without whoever watches; a console that is away for a moment is asked again."""
    deadline = time.monotonic() + _AWAY_SECONDS
    while True:
        try:
            async for state in services.console.WatchRun(runs_pb2.WatchRunRequest(run=run)):
                deadline = time.monotonic() + _AWAY_SECONDS
                show(state)
                if state.state in ENDED:
                    return state
        except grpc.aio.AioRpcError as error:
            if error.code() != grpc.StatusCode.UNAVAILABLE or time.monotonic() > deadline:
                raise
        await asyncio.sleep(1)


class _Lines:
    """Prints a line when a stage begins, ends, or has worked for a while."""

    def __init__(self) -> None:
        self._shown: dict[str, tuple[int, float]] = {}

    def show(self, run: runs_pb2.Run) -> None:
        for stage in run.stages:
            state, at = self._shown.get(stage.name, (-1, 0.0))
            due = stage.state == runs_pb2.RUN_STATE_RUNNING and time.monotonic() - at > _LINE_SECONDS
            if stage.name != "collect" and (stage.state != state or due):
                print("  ".join(part for part in _cells(stage) if part), flush=True)  # noqa: T201
                self._shown[stage.name] = (stage.state, time.monotonic())


def _table(run: runs_pb2.Run) -> Table:
    table = Table.grid(padding=(0, 2))
    for stage in run.stages:
        if stage.name != "collect":
            mark, name, counts, rest = _cells(stage)
            table.add_row(mark, name, _bar(stage), counts, rest)
    return table


def _bar(stage: runs_pb2.Stage) -> str:
    if not stage.total:
        return ""
    full = round(_BAR * min(1.0, stage.done / stage.total))
    return "━" * full + "·" * (_BAR - full)


def _cells(stage: runs_pb2.Stage) -> tuple[str, str, str, str]:
    counts = f"{stage.done:,}" + (f" of {stage.total:,}" if stage.total else "") + (f" {stage.unit}" if stage.unit else "")
    more = ", ".join(f"{name.replace('_', ' ')} {n:,}" for name, n in sorted(stage.counts.items()) if n and "|" not in name)
    return (
        _MARKS.get(stage.state, ""),
        f"{stage.name:<10}",
        counts if stage.done or stage.total else "",
        " · ".join(p for p in (_time(stage), more, stage.message) if p)[:140],
    )


def _time(stage: runs_pb2.Stage) -> str:
    """Seconds that it took; while it works, seconds that are left by its speed until now."""
    if not stage.HasField("started"):
        return ""
    if stage.HasField("finished") and stage.state != runs_pb2.RUN_STATE_RUNNING:
        return f"{(stage.finished.ToNanoseconds() - stage.started.ToNanoseconds()) / 1e9:.0f} s"
    took = time.time() - stage.started.ToNanoseconds() / 1e9
    if stage.total > stage.done > 0 and took > 1:
        return f"about {took / stage.done * (stage.total - stage.done):.0f} s left"
    return f"{took:.0f} s"


def say(text: str) -> None:
    """A line for the person who waits."""
    print(text, file=sys.stdout, flush=True)  # noqa: T201
