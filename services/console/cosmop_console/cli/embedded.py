"""The embedded system from the shell: ``cosmop up``, ``cosmop down``."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path

from cosmop_common.errors import UnreachableError

from cosmop_console.cli.watch import say

_DOWN_SECONDS = 60.0


async def up(home: Path) -> None:
    """Runs the system until SIGINT or SIGTERM."""
    # The embedded system is an option: a container of the console goes without it.
    from cosmop_local.supervisor import System

    async with interruptible(), System(home, on_event=say) as system:
        state = system.status()
        say(f"console   {state['console']}")
        for service, address in sorted(state["grpc"].items()):
            say(f"gRPC      {address}  {service}")
        say(f"logs      {system.home.logs}\nCtrl-C or `cosmop down --home {home}` ends it")
        await system.until_failure()


def down(home: Path) -> None:
    """Ends the system of a folder and waits until it is gone. Raises ``UnreachableError``."""
    from cosmop_local.home import Home

    state = Home(home).read_state() if home.is_dir() else {}
    if not state:
        say(f"no system runs in {home}")
        return
    pid = int(state["pid"])
    os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + _DOWN_SECONDS
    while Home(home).in_use():
        if time.monotonic() > deadline:
            raise UnreachableError(
                f"process {pid} did not end within {_DOWN_SECONDS:.0f} s; {json.dumps(list(state['processes']))} may still run: kill -9 {pid} ends them all"
            )
        time.sleep(0.1)
    say("down")


@contextlib.asynccontextmanager
async def interruptible() -> AsyncIterator[None]:
    """Makes SIGTERM and SIGINT end the current task in order, once; a second one ends the process at once."""
    task = asyncio.current_task()
    assert task is not None
    told = False

    def end() -> None:
        nonlocal told
        if told:
            # The guard of the embedded system ends what is left, within seconds.
            os._exit(130)
        told = True
        say("ending: work in flight finishes; again ends at once")
        task.cancel()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, end)
    try:
        yield
    except asyncio.CancelledError:
        if not told:
            raise
        raise SystemExit(130) from None
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)
