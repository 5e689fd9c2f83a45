"""The connection to NATS: made once per process, kept for ever, its state visible to readiness probes."""

from __future__ import annotations

import asyncio
import contextlib
import logging

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
        told = _ErrorLog()
        try:
            # The client, told to reconnect for ever, would try for ever here too.
            client = await asyncio.wait_for(
                nats.connect(
                    servers=settings.nats_url.split(","),
                    name=f"cosmop-{name}",
                    user=settings.nats_user or None,
                    password=settings.nats_password.get_secret_value() or None,
                    connect_timeout=2,
                    max_reconnect_attempts=-1,
                    reconnect_time_wait=0.5,
                    allow_reconnect=True,
                    error_cb=told.hear,
                ),
                settings.connect_seconds,
            )
        except (OSError, nats.errors.Error, TimeoutError) as error:
            why = str(error) or told.last or "no answer"
            if told.refused or "authorization" in why.lower():
                raise UnreachableError(f"NATS at {settings.nats_url} refuses the credentials: check COSMOP_NATS_USER and COSMOP_NATS_PASSWORD") from error
            raise UnreachableError(f"NATS at {settings.nats_url} does not answer ({why}): is it up? COSMOP_NATS_URL says where it is") from error
        told.loud = True
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


class _ErrorLog:
    """What the client complains of: remembered, logged once the connection has stood, and each complaint once in a row."""

    def __init__(self) -> None:
        self.last = ""
        self.loud = False
        self.refused = False

    async def hear(self, error: Exception) -> None:
        """The client's callback."""
        text = str(error) or type(error).__name__
        if self.loud and text != self.last:
            log.warning("nats: %s", text)
        self.last = text
        self.refused = self.refused or "authorization" in text.lower()
