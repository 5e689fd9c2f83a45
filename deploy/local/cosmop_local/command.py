"""The supervisor from the shell: ``python -m cosmop_local.supervisor --home DIR``."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path

from cosmop_common.errors import CosmopError

from cosmop_local import launch
from cosmop_local.supervisor import System

log = logging.getLogger(__name__)


async def supervise(home: Path, ports: Mapping[str, int]) -> None:
    """Runs a system until SIGTERM or SIGINT, or until a part of it cannot be kept running.

    Raises:
        CosmopError: it did not start, or a part of it died again and again.
    """
    told = asyncio.Event()

    def tell() -> None:
        if told.is_set():
            # Asked twice: the guard ends what is left, within seconds.
            os._exit(130)
        log.info("ending; again ends at once")
        told.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, tell)
    system = System(home, ports=ports)
    run = asyncio.create_task(_run(system))
    stop = asyncio.create_task(told.wait())
    await asyncio.wait({run, stop}, return_when=asyncio.FIRST_COMPLETED)
    while not run.done():
        # Once is not enough while it starts: wait_for of Python 3.11 can swallow a cancellation.
        if not system.ending:
            run.cancel()
        await asyncio.wait({run}, timeout=1)
    stop.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        run.result()


async def _run(system: System) -> None:
    async with system:
        await system.until_failure()


def _port(text: str) -> tuple[str, int]:
    name, _, number = text.partition("=")
    if not name or not number.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r}: say NAME=PORT, for example console.http=8080")
    return name, int(number)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m cosmop_local.supervisor", description="The embedded COSMOP system: runs until SIGTERM or Ctrl-C.")
    parser.add_argument("--home", type=Path, required=True, help="folder for data, logs and secrets")
    parser.add_argument("--port", type=_port, action="append", default=[], metavar="NAME=PORT", help="a chosen port: console.http=8080, nats=4222, s3=9000")
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--detach", action="store_true", help="return when all is ready; the system stays")
    how.add_argument("--end", action="store_true", help="end the system that runs in the folder")
    arguments = parser.parse_args()
    logging.basicConfig(level="INFO", format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    try:
        if arguments.end:
            log.info("ended" if launch.stop(arguments.home) else f"no system runs in {arguments.home}")
        elif arguments.detach:
            log.info("ready; console: %s", launch.start(arguments.home, dict(arguments.port))["console"])
        else:
            asyncio.run(supervise(arguments.home, dict(arguments.port)))
    except CosmopError as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201
        raise SystemExit(1) from None
