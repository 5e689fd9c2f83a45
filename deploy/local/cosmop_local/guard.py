"""Nothing outlives its supervisor: every process of a system carries a mark in its environment, and the guard ends all that carry it.

A process group is not enough (Chrome's driver and workers make groups of their own), and a parent-death signal reaches
only direct children. The guard (``python -m cosmop_local.guard MARK``) waits at a pipe whose other end is the
supervisor's; when that end closes, however the supervisor died, it sweeps.
"""

from __future__ import annotations

import contextlib
import signal
import sys
from collections.abc import Iterable

import psutil

#: Name of the mark in the environment: ``<instance>/<supervisor's start>/<process>/<its start>``.
MARK = "COSMOP_SUPERVISED"
_GRACE_SECONDS = 5.0


def marked(prefix: str, *, but: str | None = None) -> list[psutil.Process]:
    """Processes whose mark begins with ``prefix`` (and not with ``but``)."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            mark = process.environ().get(MARK, "")
            if mark.startswith(prefix) and not (but and mark.startswith(but)):
                found.append(process)
    return found


def end(processes: Iterable[psutil.Process], grace: float = _GRACE_SECONDS) -> None:
    """SIGTERM, and SIGKILL after ``grace`` seconds; 0 kills at once."""
    alive = list(processes)
    if grace:
        for process in alive:
            with contextlib.suppress(psutil.Error):
                process.terminate()
        _, alive = psutil.wait_procs(alive, grace)
    for process in alive:
        with contextlib.suppress(psutil.Error):
            process.kill()
    psutil.wait_procs(alive, 2)


def sweep(prefix: str, *, but: str | None = None, grace: float = _GRACE_SECONDS) -> int:
    """Ends all marked processes, those included that they start meanwhile; returns how many there were."""
    count = 0
    while found := marked(prefix, but=but):
        count += len(found)
        end(found, grace)
        grace = 0
    return count


def main() -> None:
    """Waits until the supervisor is gone, then sweeps."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    sys.stdin.buffer.read()
    sweep(sys.argv[1])


if __name__ == "__main__":
    main()
