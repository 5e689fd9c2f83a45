"""The embedded system as a service: a supervisor of its own that stays when the command that started it ends (``--detach``, ``--end``)."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cosmop_common.errors import CosmopError, UnreachableError

from cosmop_local.home import Home
from cosmop_local.processes import last_words

_START_SECONDS = 240.0
_STOP_SECONDS = 90.0
_POLL_SECONDS = 0.2


class SystemStartError(CosmopError):
    """The supervisor ended before its system was ready; the message holds what it said last."""


def start(home: Path, ports: Mapping[str, int] | None = None) -> dict[str, Any]:
    """Starts a supervisor in a session of its own, waits until all is ready, returns its ``system.json``.

    A system that runs there already is returned as it is.

    Raises:
        SystemStartError: it did not come up.
    """
    at = Home(home)
    at.prepare()
    if at.in_use():
        return _await_ready(at, None)
    log = at.logs / "supervisor.log"
    chosen = [f"--port={name}={port}" for name, port in (ports or {}).items()]
    with log.open("ab") as sink:
        process = subprocess.Popen(  # noqa: S603
            [sys.executable, "-m", "cosmop_local.supervisor", "--home", str(at.folder), *chosen],
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=sink,
            start_new_session=True,
        )
    return _await_ready(at, process)


def stop(home: Path) -> bool:
    """Ends the system of a folder and waits for its end; False where none ran.

    Raises:
        UnreachableError: it did not end in time.
    """
    at = Home(home)
    state = at.read_state()
    if not state:
        return False
    os.kill(int(state["pid"]), signal.SIGTERM)
    deadline = time.monotonic() + _STOP_SECONDS
    while at.in_use():
        if time.monotonic() > deadline:
            raise UnreachableError(f"the supervisor (process {state['pid']}) did not end in {_STOP_SECONDS:.0f} s: {at.logs / 'supervisor.log'} says why")
        time.sleep(_POLL_SECONDS)
    return True


def _await_ready(at: Home, process: subprocess.Popen[bytes] | None) -> dict[str, Any]:
    log = at.logs / "supervisor.log"
    deadline = time.monotonic() + _START_SECONDS
    while (state := at.read_state()).get("state") != "ready":
        if process is not None and process.poll() is not None:
            raise SystemStartError(f"the system in {at.folder} did not start: {log} says why{last_words(log)}")
        if time.monotonic() > deadline:
            raise SystemStartError(f"the system in {at.folder} was not ready in {_START_SECONDS:.0f} s: see {at.logs}")
        time.sleep(_POLL_SECONDS)
    return state
