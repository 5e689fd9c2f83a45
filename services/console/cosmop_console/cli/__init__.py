"""The ``cosmop`` command: the same system from the shell, embedded on this machine or on a cluster."""

from __future__ import annotations

import sys

from cosmop_common.errors import CosmopError

from cosmop_console.cli.app import app


def main() -> None:
    """Runs the command; a known error is one line on stderr and status 1."""
    try:
        app()
    except CosmopError as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201
        raise SystemExit(1) from None
