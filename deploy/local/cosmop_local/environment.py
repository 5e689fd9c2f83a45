"""What processes of an embedded system are told: ``COSMOP_...`` of the services, and of their clients."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from cosmop_common.settings import ConnectionSettings

from cosmop_local.home import Home

_DRAIN_SECONDS = 15.0


def addresses(grpc: Mapping[str, str]) -> dict[str, str]:
    """``COSMOP_<SERVICE>_ADDR`` from ``host:port`` by service: what ``cosmop_common.endpoints`` reads."""
    return {f"COSMOP_{service.replace('-', '_').upper()}_ADDR": address for service, address in grpc.items()}


def connection(environment: Mapping[str, str]) -> ConnectionSettings:
    """Typed settings from variables; what they do not name comes from this process's environment."""
    named = {name: environment[f"COSMOP_{name.upper()}"] for name in ConnectionSettings.model_fields if f"COSMOP_{name.upper()}" in environment}
    return ConnectionSettings(**named)  # type: ignore[arg-type]


def process_environment(home: Home, grpc_port: int, http_port: int) -> dict[str, str]:
    """A service process's own variables, on top of this process's; where the servers are is added to them."""
    # PyTorch and BLAS take every core in every process unless told otherwise.
    threads = str(max(2, (os.cpu_count() or 2) // 2))
    defaults = {
        "OMP_NUM_THREADS": threads,
        "OPENBLAS_NUM_THREADS": threads,
        # Threads that wait for work must not spin while the other processes want the cores.
        "OMP_WAIT_POLICY": "PASSIVE",
        "PYTHONUNBUFFERED": "1",
        "COSMOP_DRAIN_SECONDS": str(_DRAIN_SECONDS),
    }
    own = {
        "COSMOP_BIND": "127.0.0.1",
        "COSMOP_GRPC_PORT": str(grpc_port),
        "COSMOP_HTTP_PORT": str(http_port),
        "COSMOP_CONSOLE_DATA": str(home.console),
    }
    return defaults | os.environ | own


def client_environment(home: Path) -> dict[str, str]:
    """``COSMOP_...`` of the system that runs in a folder, for a client in another process; empty where none runs."""
    at = Home(home)
    state = at.read_state()
    if not state.get("nats"):
        return {}
    secrets = at.secrets()
    credentials = {
        "COSMOP_NATS_URL": state["nats"],
        "COSMOP_NATS_USER": "cosmop",
        "COSMOP_NATS_PASSWORD": secrets["nats_password"],
        "COSMOP_S3_ENDPOINT": state["object_store"],
        "COSMOP_S3_ACCESS_KEY": secrets["s3_access_key"],
        "COSMOP_S3_SECRET_KEY": secrets["s3_secret_key"],
        "COSMOP_S3_BUCKET": "cosmop",
    }
    return credentials | addresses(state["grpc"])
