"""The folder that an embedded system lives in: who holds it, its secrets, the ports it keeps, its state for others to read."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import secrets
import shutil
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from cosmop_common.errors import ConflictError, CosmopError, StorageFullError

from cosmop_local.servers import free_ports

#: Less than this and the servers would refuse writes in the middle of a run.
MIN_FREE_BYTES = 2 << 30


class HomeInUseError(ConflictError):
    """Another supervisor runs the system of this folder."""


class ChosenPortTakenError(CosmopError):
    """A port that the user asked for belongs to another process."""


class HomeError(CosmopError):
    """The folder cannot be used: it cannot be made or written, or a file in it is damaged."""


class Home:
    """Paths below one folder, and what is kept in it between runs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()
        self.logs = self.folder / "logs"
        self.nats = self.folder / "nats"
        self.object_store = self.folder / "object-store"
        self.console = self.folder / "console"
        self.state_file = self.folder / "system.json"
        self._secrets_file = self.folder / "secrets.json"
        self._ports_file = self.folder / "ports.json"
        self._lock_file = self.folder / "lock"

    def prepare(self, min_free_bytes: int = MIN_FREE_BYTES) -> None:
        """Makes the folders and checks the disk.

        Raises:
            HomeError: the folder cannot be made or written.
            StorageFullError: less than ``min_free_bytes`` are free.
        """
        try:
            for folder in (self.folder, self.logs, self.nats, self.object_store, self.console):
                folder.mkdir(parents=True, exist_ok=True)
            free = shutil.disk_usage(self.folder).free
        except OSError as error:
            raise HomeError(f"{self.folder} cannot be used ({error.strerror}): choose another folder with --home (make: OUT=dir)") from error
        if not os.access(self.folder, os.W_OK):
            raise HomeError(f"{self.folder} cannot be written: choose another folder with --home (make: OUT=dir)")
        if free < min_free_bytes:
            raise StorageFullError(
                f"the disk of {self.folder} has {free / 2**30:.2f} GiB free, and a run needs {min_free_bytes / 2**30:.0f} GiB: "
                "free some space, or choose a folder on another disk with --home (make: OUT=dir)"
            )

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Holds the folder for this process; the system lets go of it when the process dies, however it dies.

        Raises:
            HomeInUseError: another process holds it; the message says which.
        """
        with self._lock_file.open("a+") as file:
            if not _flock(file.fileno()):
                file.seek(0)
                holder = file.read().strip() or "another process"
                raise HomeInUseError(
                    f"{self.folder} is in use by {holder}: use that system, end it (`cosmop down --home {self.folder}`, make down), or choose another folder"
                )
            file.truncate(0)
            file.write(f"process {os.getpid()}")
            file.flush()
            yield

    def secrets(self) -> dict[str, str]:
        """The system's own credentials, random, made on first use, readable by their owner only."""
        names = ("instance", "nats_password", "s3_access_key", "s3_secret_key")
        kept = _read_json(self._secrets_file)
        if any(name not in kept for name in names):
            kept = {name: kept.get(name) or secrets.token_hex(24) for name in names}
            _write_json(self._secrets_file, kept, mode=0o600)
        return {name: str(kept[name]) for name in names}

    def ports(self, names: Sequence[str], chosen: Mapping[str, int]) -> dict[str, int]:
        """A free loopback port for each name: the chosen one, else last time's where it is still free, else a new one.

        Raises:
            ChosenPortTakenError: somebody listens on a chosen one.
        """
        for name, port in chosen.items():
            if not _is_free(port):
                raise ChosenPortTakenError(f"port {port}, asked for {name}, cannot be had: somebody listens there, or it is no port of yours; ask for another")
        kept = _read_json(self._ports_file)
        ports = dict(chosen)
        for name in names:
            last = kept.get(name)
            if name not in ports and isinstance(last, int) and last not in ports.values() and _is_free(last):
                ports[name] = last
        missing = [name for name in names if name not in ports]
        candidates = [port for port in free_ports(len(names) + len(missing)) if port not in ports.values()]
        ports.update(zip(missing, candidates, strict=False))
        _write_json(self._ports_file, ports)
        return ports

    def write_state(self, state: Mapping[str, Any]) -> None:
        """Replaces ``system.json`` at once, so that a reader never sees half of it."""
        _write_json(self.state_file, state)

    def read_state(self) -> dict[str, Any]:
        """``system.json`` if the supervisor that wrote it is alive, else an empty dict."""
        return _read_json(self.state_file) if self.in_use() else {}

    def in_use(self) -> bool:
        """Whether a supervisor holds the folder now."""
        if not self._lock_file.exists():
            return False
        with self._lock_file.open("a+") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except OSError:
                return True
        return False


def _flock(descriptor: int) -> bool:
    """Takes the lock; a reader of the state holds it for a moment (``in_use``), so that it is tried for a while."""
    for _ in range(10):
        with contextlib.suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        time.sleep(0.05)
    return False


def _is_free(port: int) -> bool:
    with socket.socket() as s:
        # As the servers themselves do: a port in TIME_WAIT is free.
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            s.bind(("127.0.0.1", port))
        except (OSError, OverflowError):
            return False
    return True


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise HomeError(f"{path} cannot be read ({error}): delete it, and it is made again") from error
    if not isinstance(value, dict):
        raise HomeError(f"{path} holds no JSON object: delete it, and it is made again")
    return value


def _write_json(path: Path, value: Mapping[str, Any], mode: int = 0o644) -> None:
    draft = path.with_suffix(".new")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        json.dump(value, file, indent=1)
    draft.replace(path)
