"""Servers that are away or refuse: said in a line, in a bounded time."""

from __future__ import annotations

import asyncio

import pytest
from cosmop_common.bus import Bus
from cosmop_common.errors import UnreachableError
from cosmop_common.settings import ConnectionSettings
from pydantic import SecretStr


async def test_a_server_that_is_away_is_named_within_the_time() -> None:
    async with asyncio.timeout(60):  # it would try for ever
        with pytest.raises(UnreachableError, match=r"127\.0\.0\.1:1 does not answer .* COSMOP_NATS_URL"):
            await Bus.connect(ConnectionSettings(nats_url="nats://127.0.0.1:1", connect_seconds=1.5), "test")


async def test_wrong_credentials_are_named(settings: ConnectionSettings) -> None:
    wrong = settings.model_copy(update={"nats_password": SecretStr("wrong"), "connect_seconds": 6.0})
    with pytest.raises(UnreachableError, match="COSMOP_NATS_PASSWORD"):
        await Bus.connect(wrong, "test")
