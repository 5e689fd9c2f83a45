"""Put on PYTHONPATH of both scrapers: names under ``.test`` (RFC 6761) lead to loopback, each to an address of its own."""

from __future__ import annotations

import socket
import zlib
from typing import Any

_look_up = socket.getaddrinfo


def _getaddrinfo(host: Any, port: Any, *args: Any, **kwargs: Any) -> Any:
    name = host.decode() if isinstance(host, bytes) else host
    if isinstance(name, str) and name.endswith(".test"):
        host = f"127.1.{zlib.crc32(name.encode()) % 250}.{1 + zlib.crc32(name[::-1].encode()) % 250}"
    return _look_up(host, port, *args, **kwargs)


socket.getaddrinfo = _getaddrinfo
