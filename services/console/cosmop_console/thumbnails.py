"""Small renditions of images, made on first use and kept on disk: the browser never loads a 20-megapixel original to fill a tile."""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
from pathlib import Path

from cosmop_common.images import decode_rgb
from cosmop_common.store import Store
from PIL import Image

#: Longest side in pixels: a gallery tile, and the labelling page.
SIZES = (320, 1280)
#: Decoded at once; each may hold 300 MB of pixels.
_AT_ONCE = 2


class Thumbnails:
    """Renditions by image id and size, as JPEG."""

    def __init__(self, store: Store, folder: Path) -> None:
        self._store = store
        self._folder = folder
        self._slots = asyncio.Semaphore(_AT_ONCE)

    async def get(self, image: str, size: int) -> bytes:
        """The rendition's bytes.

        Raises:
            NotFoundError: the store does not have the image.
            RefusedImageError: its bytes do not decode.
        """
        path = self._path(image, size)
        with contextlib.suppress(FileNotFoundError):
            return await asyncio.to_thread(path.read_bytes)
        data = await self._store.get_image(image)
        async with self._slots:
            made = await asyncio.to_thread(render, data, size)
        await asyncio.to_thread(_keep, path, made)
        return made

    def forget(self, image: str) -> None:
        """Deletes all renditions of an erased image."""
        for size in SIZES:
            self._path(image, size).unlink(missing_ok=True)

    def _path(self, image: str, size: int) -> Path:
        return self._folder / str(size) / image[:2] / f"{image}.jpg"


def render(data: bytes, size: int) -> bytes:
    """An image as JPEG, upright, its longest side at most ``size`` pixels; never enlarged."""
    picture = decode_rgb(data, at_least=size)
    picture.thumbnail((size, size), Image.Resampling.LANCZOS)
    sink = io.BytesIO()
    picture.save(sink, "JPEG", quality=85, optimize=size <= min(SIZES), progressive=False)
    return sink.getvalue()


def _keep(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    half = path.with_suffix(f".{os.getpid()}.{id(data)}")
    half.write_bytes(data)
    half.replace(path)
