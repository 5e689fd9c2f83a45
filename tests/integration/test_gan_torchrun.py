"""The job process under torchrun: two processes train one run, and end together when they are told to."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys

import pytest
import safetensors.torch
import torch
from cosmop_common.bus import Bus
from cosmop_common.jobs import submit
from cosmop_common.names import snapshot_key
from cosmop_common.pb.cosmop.v1 import runs_pb2
from cosmop_common.runs import Runs
from cosmop_common.settings import ConnectionSettings
from cosmop_common.store import Store
from test_gan_training import drawing, freeze, train_job, work
from work_off import ended

TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "cosmop_gan_trainer", "job"]


@pytest.mark.slow
async def test_two_processes_under_torchrun_train_what_one_does(bus: Bus, settings: ConnectionSettings, store: Store, environment: dict[str, str]) -> None:
    await freeze(store, [drawing(k) for k in range(30)])
    runs, options = Runs(bus), {"evaluate": "false", "chunk": "4", "ada_target": "0"}
    more = {"COSMOP_GAN_DEVICE": "cpu", "COSMOP_TORCH_THREADS": "1", "OMP_NUM_THREADS": "1"}
    process = await asyncio.create_subprocess_exec(*TORCHRUN, env=os.environ | environment | more, stderr=subprocess.PIPE)
    try:
        for run in ("two", "two-again"):  # the followers go from run to run with their leader
            await submit(bus, runs, "gan-trainer", train_job(run, kimg=0.08, snapshots=1, **options))
            last = await ended(bus, run, while_alive=[process])
            assert last.state == runs_pb2.RUN_STATE_SUCCEEDED, last.error
        process.send_signal(signal.SIGTERM)
        _, errors = await asyncio.wait_for(process.communicate(), 90)
    finally:
        if process.returncode is None:
            process.kill()
    # torchrun itself calls any SIGTERM a failure; its processes ended by themselves, without an abort or a kill.
    assert b"Signal 6" not in errors
    assert b"forcefully" not in errors
    await submit(bus, runs, "gan-trainer", train_job("one", kimg=0.08, snapshots=1, **options))
    await work(bus, settings, store)
    one, two, again = [safetensors.torch.load(await store.get(snapshot_key(run, 0.08, "generator.safetensors"))) for run in ("one", "two", "two-again")]
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, rtol=1e-3, atol=1e-4)
        assert torch.equal(two[name], again[name])
