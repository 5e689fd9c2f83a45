"""Progress is written in the order in which it was made, however slowly one write goes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from cosmop_common.pb.cosmop.v1 import runs_pb2
from cosmop_common.run_handle import RunHandle


class SlowFirst:
    """Runs whose first write meets a conflict and comes again late."""

    def __init__(self) -> None:
        self.stored = runs_pb2.Run(id="r", state=runs_pb2.RUN_STATE_RUNNING)
        self.late = asyncio.Event()
        self.writes = 0

    async def change(self, run: str, change: Callable[[runs_pb2.Run], None]) -> runs_pb2.Run:
        self.writes += 1
        if self.writes == 1:
            await self.late.wait()
        change(self.stored)
        return self.stored


async def test_a_late_write_of_progress_does_not_undo_the_end() -> None:
    runs = SlowFirst()
    job = runs_pb2.Job(run="r")
    handle = RunHandle(None, runs, job, runs_pb2.Run(id="r", state=runs_pb2.RUN_STATE_RUNNING))  # type: ignore[arg-type]
    handle.result(made="something")
    progress = asyncio.create_task(handle.flush())
    await asyncio.sleep(0)
    end = asyncio.create_task(handle.end(runs_pb2.RUN_STATE_SUCCEEDED))
    for _ in range(5):
        await asyncio.sleep(0)
    runs.late.set()
    await asyncio.gather(progress, end)
    assert runs.stored.state == runs_pb2.RUN_STATE_SUCCEEDED
    assert runs.stored.result["made"] == "something"
