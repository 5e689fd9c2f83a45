"""Which system a command speaks to: the embedded one of a folder, or a cluster."""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from cosmop_common.endpoints import Endpoints
from cosmop_common.errors import UnreachableError
from cosmop_common.settings import ConnectionSettings
from pydantic_settings import BaseSettings

from cosmop_console.clients import Services, connect


@dataclass(frozen=True)
class Target:
    """Where a system is: gRPC addresses, NATS and the store."""

    endpoints: Endpoints
    connection: ConnectionSettings

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> Target:
        """From ``COSMOP_...`` variables."""
        return cls(Endpoints(**_fields(Endpoints, environment)), ConnectionSettings(**_fields(ConnectionSettings, environment)))  # type: ignore[arg-type]

    @contextlib.asynccontextmanager
    async def services(self) -> AsyncIterator[Services]:
        """Stubs of all services."""
        async with connect(self.endpoints) as services:
            yield services


def find(home: Path, endpoint: str, *, servers_only: bool = False) -> Target:
    """The system to speak to.

    Args:
        home: folder of the embedded system.
        endpoint: ``host:port`` of a cluster's console.
        servers_only: NATS and the store are enough, where COSMOP_... says: no service need run yet.

    Raises:
        UnreachableError: nothing runs in ``home``, and nothing else is named.
    """
    if endpoint:
        return Target.of(os.environ | {"COSMOP_CONSOLE_ADDR": endpoint})
    running = running_at(home)
    if running:
        return Target.of(os.environ | running)
    if os.environ.get("COSMOP_NATS_URL" if servers_only else "COSMOP_CONSOLE_ADDR"):
        return Target.of(os.environ)
    raise UnreachableError(f"no system runs in {home}: start one with `cosmop up --home {home}`, or name a cluster's console with --endpoint")


def running_at(home: Path) -> dict[str, str]:
    """``COSMOP_...`` of the embedded system that runs in a folder; empty when none does."""
    if not home.is_dir():
        return {}
    # The embedded system is an option: a container of the console goes without it.
    from cosmop_local.environment import client_environment

    return client_environment(home)


def _fields(kind: type[BaseSettings], environment: Mapping[str, str]) -> dict[str, str]:
    names = {f"COSMOP_{name.upper()}": name for name in kind.model_fields}
    return {names[key]: value for key, value in environment.items() if key in names}
