"""Features of stored images, computed once: in chunks that are kept beside the dataset version they belong to.

A chunk's key is made of all that its numbers depend on (network, weights, preprocessing, augmentation, images), so a job
taken away goes on behind the last chunk, and the next job on the same version begins where this one ended.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from cosmop_common.errors import NotFoundError
from cosmop_common.names import dataset_key, sha256_hex
from cosmop_common.store import Store
from cosmop_vision.networks import Network
from cosmop_vision.preprocess import Preprocessing
from numpy.typing import NDArray
from safetensors.numpy import load, save

from cosmop_classifier import augment
from cosmop_classifier.heads import Array, Features

CHUNK = 64
_BATCH = 16
_IN_FLIGHT = 8


@dataclass(frozen=True)
class Item:
    """An image to look at."""

    #: sha256 of its bytes.
    image: str
    read: Callable[[], Awaitable[bytes]]


@dataclass(frozen=True)
class Eye:
    """A network that looks: preprocessed images (n, 3, s, s) in, features out."""

    network: Network
    preprocessing: Preprocessing
    run: Callable[[Array], Features]


def stored(store: Store, image: str) -> Item:
    """An image of the store."""

    async def read() -> bytes:
        try:
            return await store.get_image(image)
        except NotFoundError as error:
            raise NotFoundError(f"the manifest names image {image}, which is not in the object store: restore it, or freeze a version without it") from error

    return Item(image, read)


def given(data: bytes) -> Item:
    """An image whose bytes are at hand."""

    async def read() -> bytes:
        return data

    return Item(sha256_hex(data), read)


async def pooled_features(store: Store, dataset: str, eye: Eye, items: Sequence[Item], *, copy: int, seed: int, done: Callable[[int], None]) -> Array:
    """Pooled features of images, (n, c).

    Args:
        copy: 0: the images as they are; above: their augmented copy of this number.
        done: told how many images are through, after each chunk; may raise to stop.
    """
    parts = [np.zeros((0, eye.network.features), np.float32)]
    for start in range(0, len(items), CHUNK):
        chunk = items[start : start + CHUNK]
        key = _key(dataset, eye, chunk, copy, seed)
        pooled = await _cached(store, key)
        if pooled is None:
            data = await read_all(chunk)
            pooled = await asyncio.to_thread(_look, eye, data, [i.image for i in chunk], copy, seed)
            await store.put(key, save({"pooled": pooled}))
        parts.append(pooled)
        done(len(chunk))
    return np.concatenate(parts)


async def feature_maps(eye: Eye, items: Sequence[Item], done: Callable[[int], None]) -> NDArray[np.float16]:
    """The last feature maps of images, (n, c, h, w), at half precision: they are large and not kept."""
    parts = []
    for start in range(0, len(items), CHUNK):
        chunk = items[start : start + CHUNK]
        data = await read_all(chunk)
        parts.append(await asyncio.to_thread(_maps, eye, data))
        done(len(chunk))
    return np.concatenate(parts)


async def read_all(items: Sequence[Item]) -> list[bytes]:
    """The bytes of images, a few at a time."""
    gate = asyncio.Semaphore(_IN_FLIGHT)

    async def read(item: Item) -> bytes:
        async with gate:
            return await item.read()

    return await asyncio.gather(*(read(item) for item in items))


def decode(preprocessing: Preprocessing, data: Sequence[bytes]) -> Array:
    """Encoded images as (n, 3, s, s). Raises ``RefusedImageError``."""
    with ThreadPoolExecutor() as pool:
        return np.stack(list(pool.map(preprocessing.array_of_bytes, data)))


def _look(eye: Eye, data: Sequence[bytes], images: Sequence[str], copy: int, seed: int) -> Array:
    pixels = decode(eye.preprocessing, data)
    if copy:
        pixels = augment.apply(pixels, [augment.draw(seed, image, copy) for image in images])
    return np.concatenate([eye.run(pixels[start : start + _BATCH]).pooled for start in range(0, len(pixels), _BATCH)])


def _maps(eye: Eye, data: Sequence[bytes]) -> NDArray[np.float16]:
    pixels = decode(eye.preprocessing, data)
    parts = []
    for start in range(0, len(pixels), _BATCH):
        feature_map = eye.run(pixels[start : start + _BATCH]).feature_map
        assert feature_map is not None
        parts.append(feature_map.astype(np.float16))
    return np.concatenate(parts)


def _key(dataset: str, eye: Eye, chunk: Sequence[Item], copy: int, seed: int) -> str:
    collection, _, version = dataset.partition("/")
    made_by = (eye.network.name, eye.network.weights.sha256, eye.preprocessing, (copy, seed, augment.RECIPE) if copy else 0)
    digest = hashlib.sha256(repr(made_by).encode())
    for item in chunk:
        digest.update(item.image.encode())
    return dataset_key(collection, version, f"features/{eye.network.name}/{digest.hexdigest()[:32]}.safetensors")


async def _cached(store: Store, key: str) -> Array | None:
    try:
        return np.asarray(load(await store.get(key))["pooled"], dtype=np.float32)
    except NotFoundError:
        return None
