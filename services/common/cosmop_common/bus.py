"""The connection to NATS: made once per process, kept for ever, its state visible to readiness probes."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time

import nats
import nats.errors
from nats.aio.client import Client
from nats.js import JetStreamContext

from cosmop_common.errors import UnreachableError
from cosmop_common.settings import ConnectionSettings

log = logging.getLogger(__name__)


class Bus:
    """A NATS connection and its JetStream context. Make it with ``Bus.connect``."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.js: JetStreamContext = client.jetstream(timeout=10)

    @classmethod
    async def connect(cls, settings: ConnectionSettings, name: str) -> Bus:
        """Connects, trying for ``settings.connect_seconds``; afterwards reconnects for ever.

        Raises:
            UnreachableError: nobody answers there, or the credentials are refused.
        """
        deadline = time.monotonic() + settings.connect_seconds
        while True:
            try:
                client = await nats.connect(
                    servers=settings.nats_url.split(","),
                    name=f"cosmop-{name}",
                    user=settings.nats_user or None,
                    password=settings.nats_password.get_secret_value() or None,
                    connect_timeout=2,
                    max_reconnect_attempts=-1,
                    reconnect_time_wait=0.5,
                    allow_reconnect=True,
                    error_cb=_log_error,
                )
            except (TimeoutError, OSError, nats.errors.Error) as error:
                if "Authorization" in str(error):
                    raise UnreachableError(f"NATS at {settings.nats_url} refuses the credentials: check COSMOP_NATS_USER and COSMOP_NATS_PASSWORD") from error
                if time.monotonic() > deadline:
                    msg = f"NATS at {settings.nats_url} does not answer ({error}): is it up? COSMOP_NATS_URL says where it is"
                    raise UnreachableError(msg) from error
                await asyncio.sleep(0.3)
            else:
                return cls(client)

    @property
    def ready(self) -> bool:
        """Whether the connection stands now."""
        return self.client.is_connected

    async def close(self) -> None:
        """Flushes and closes."""
        with contextlib.suppress(nats.errors.Error, asyncio.TimeoutError):
            await self.client.drain()
        if not self.client.is_closed:
            await self.client.close()


async def _log_error(error: Exception) -> None:
    log.warning("nats: %s", error or type(error).__name__)
