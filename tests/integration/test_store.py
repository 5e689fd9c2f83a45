"""The store on a real S3 server."""

from __future__ import annotations

import asyncio

import pytest
from cosmop_common.errors import ChecksumError, NotFoundError, UnreachableError
from cosmop_common.names import image_key, sha256_hex
from cosmop_common.settings import ConnectionSettings
from cosmop_common.store import Store


async def test_images_are_found_by_the_hash_of_their_bytes(store: Store) -> None:
    image = await store.put_image(b"bytes", "image/jpeg")
    assert image == sha256_hex(b"bytes")
    assert await store.get_image(image) == b"bytes"
    assert [key async for key in store.list("images/")] == [image_key(image)]


async def test_what_must_never_change_is_written_once(store: Store) -> None:
    written = await asyncio.gather(*(store.put_new("datasets/c/v/manifest", f"{i}".encode()) for i in range(8)))
    assert sum(written) == 1
    assert await store.get("datasets/c/v/manifest") == str(written.index(True)).encode()


async def test_damage_is_noticed(store: Store) -> None:
    image = await store.put_image(b"bytes", "image/jpeg")
    await store.put(image_key(image), b"other")
    with pytest.raises(ChecksumError, match=image):
        await store.get_image(image)


async def test_a_missing_object_and_a_missing_server_say_so(store: Store, settings: ConnectionSettings) -> None:
    with pytest.raises(NotFoundError, match="no/such"):
        await store.get("no/such")
    away = Store(settings.model_copy(update={"s3_endpoint": "127.0.0.1:1"}))
    with pytest.raises(UnreachableError, match=r"127\.0\.0\.1:1"):
        await away.wait_ready(0.1)
