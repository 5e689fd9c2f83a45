"""A job process of its own: killed in the middle, told to end in the middle; what comes of the run is the same."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys

import pytest
from cosmop_common.bus import Bus
from cosmop_common.jobs import submit
from cosmop_common.names import run_key, snapshot_key
from cosmop_common.pb.cosmop.v1 import runs_pb2
from cosmop_common.records import GanRunRecord, SnapshotRecord
from cosmop_common.runs import Runs
from cosmop_common.settings import ConnectionSettings
from cosmop_common.store import Store
from cosmop_common.topology import provision
from test_gan_training import drawing, freeze, train_job

QUICK = {"evaluate": "false", "checkpoint_seconds": "0.2"}
#: The job process as it is, but that training stands still at so many images until the process is told to end, or killed:
#: whatever is to happen in the middle happens in the middle, on a fast machine too.
HELD = """
import os, runpy, sys, time
from cosmop_gan_trainer.session import Session

advance, most = Session.advance, int(os.environ["HOLD_AT"])

def held(session, interrupted, report):
    def wait():
        while session.trainer.images >= most and not interrupted():
            time.sleep(0.02)
        return interrupted()
    return advance(session, wait, report)

Session.advance = held
sys.argv = ["cosmop_gan_trainer", "job"]
runpy.run_module("cosmop_gan_trainer", run_name="__main__")
"""


def job_process(environment: dict[str, str], hold_at: int) -> subprocess.Popen[bytes]:
    more = {"COSMOP_ACK_WAIT": "3", "COSMOP_GAN_DEVICE": "cpu", "COSMOP_TORCH_THREADS": "1", "OMP_NUM_THREADS": "1", "HOLD_AT": str(hold_at)}
    return subprocess.Popen([sys.executable, "-c", HELD], env=os.environ | environment | more)


async def reached(runs: Runs, run: str, images: int) -> None:
    async with asyncio.timeout(240):
        async for state in runs.watch(run):
            if state.stages and state.stages[0].done >= images:
                return
    pytest.fail(f"run {run} ended before it had seen {images} images")


@pytest.mark.slow
@pytest.mark.timeout(1200)
async def test_a_killed_process_and_a_stopped_one_lose_nothing(bus: Bus, settings: ConnectionSettings, store: Store, environment: dict[str, str]) -> None:
    await provision(bus.js, settings.model_copy(update={"ack_wait": 3.0}))
    await freeze(store, [drawing(k) for k in range(30)])
    runs = Runs(bus)
    await submit(bus, runs, "gan-trainer", train_job("disturbed", kimg=0.32, **QUICK))
    processes = []
    try:
        processes.append(job_process(environment, 96))
        await reached(runs, "disturbed", 96)
        processes[-1].send_signal(signal.SIGKILL)
        processes[-1].wait(60)
        processes.append(job_process(environment, 200))
        await reached(runs, "disturbed", 200)
        processes[-1].send_signal(signal.SIGTERM)
        assert processes[-1].wait(120) == 0
        # Not before: a process that starts within ack_wait would take this one first, and stand still in it.
        await submit(bus, runs, "gan-trainer", train_job("whole", kimg=0.32, **QUICK))
        processes.append(job_process(environment, 1_000_000))
        for run in ("disturbed", "whole"):
            async with asyncio.timeout(240):
                async for state in runs.watch(run):
                    last = state
            assert last.state == runs_pb2.RUN_STATE_SUCCEEDED, last.error
    finally:
        for process in processes:
            process.kill()
    whole, disturbed = [await GanRunRecord.load(store, run_key(r, "gan.json")) for r in ("whole", "disturbed")]
    assert disturbed.snapshots == whole.snapshots == [0, 0.16, 0.32]
    for kimg in whole.snapshots:
        a, b = [await SnapshotRecord.load(store, snapshot_key(r, kimg, "snapshot.json")) for r in ("whole", "disturbed")]
        assert a.weights_sha256 == b.weights_sha256
