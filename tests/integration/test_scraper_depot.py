"""Images on their way into a real object store: signed with their ids, stored once, and by the longer road where the short one fails."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from cosmop_common.names import sha256_hex
from cosmop_common.settings import ConnectionSettings
from cosmop_common.store import Store
from cosmop_scraper.depot import Depot
from pydantic import SecretStr


@pytest.fixture
async def depot(store: Store, settings: ConnectionSettings) -> AsyncIterator[Depot]:
    depot = Depot(store, settings)
    yield depot
    await depot.close()


async def test_an_image_is_stored_once_over_the_short_road(depot: Depot, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Store, "put_new", None)
    bodies = [bytes([i]) * (1 + 300_000 * (i % 2)) for i in range(12)]
    for _ in range(2):
        await asyncio.gather(*(depot.put(sha256_hex(body), body, "image/jpeg") for body in bodies))
    assert [await store.get_image(sha256_hex(body)) for body in bodies] == bodies


async def test_what_the_short_road_cannot_do_is_done_by_the_longer_one(store: Store, settings: ConnectionSettings) -> None:
    # Nobody listens there; then a secret that the store does not know, which is tried once.
    for wrong in ({"s3_endpoint": "127.0.0.1:1"}, {"s3_secret_key": SecretStr("wrong")}):
        depot = Depot(store, settings.model_copy(update=wrong))
        bodies = [f"{wrong}{i}".encode() for i in range(2)]
        for body in bodies:
            await depot.put(sha256_hex(body), body, "image/png")
        assert [await store.get_image(sha256_hex(body)) for body in bodies] == bodies
        assert depot._direct is ("s3_endpoint" in wrong)
        await depot.close()
