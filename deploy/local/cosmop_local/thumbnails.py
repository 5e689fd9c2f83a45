"""Small copies of photos for the demonstration site, made when they are first shown."""

from __future__ import annotations

import asyncio
import base64
import io
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from cosmop_common.errors import RefusedImageError
from cosmop_common.images import decode_rgb, open_image
from PIL import Image

from cosmop_local.site_pages import Photo

_SIDE = 96
#: Larger ones are shown as a grey tile: the site must not be brought down by what it serves.
_MAX_PIXELS = 50_000_000
_MAX_BYTES = 64 << 20


class Thumbnails:
    """Thumbnails of the photos below a folder, kept in memory once made."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._made: dict[int, bytes] = {}
        self._sizes: dict[int, tuple[int, int]] = {}
        self._threads = ThreadPoolExecutor(2, thread_name_prefix="thumbnails")

    async def small(self, photo: Photo) -> bytes:
        """A JPEG of at most 96 pixels a side; a grey tile where the photo does not decode."""
        if photo.number not in self._made:
            self._made[photo.number] = await asyncio.get_running_loop().run_in_executor(self._threads, self._make, photo)
        return self._made[photo.number]

    async def data_uri(self, photo: Photo) -> str:
        """The same as a data URI."""
        return f"data:image/jpeg;base64,{base64.b64encode(await self.small(photo)).decode()}"

    async def size(self, photo: Photo) -> tuple[int, int]:
        """Width and height as the header says; 0 x 0 where it cannot be read."""
        if photo.number not in self._sizes:
            self._sizes[photo.number] = await asyncio.get_running_loop().run_in_executor(self._threads, self._measure, photo)
        return self._sizes[photo.number]

    def close(self) -> None:
        """Ends the threads."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _make(self, photo: Photo) -> bytes:
        try:
            image = decode_rgb(self._read(photo), max_pixels=_MAX_PIXELS, at_least=_SIDE)
            image.thumbnail((_SIDE, _SIDE))
        except (RefusedImageError, OSError, MemoryError):
            image = Image.new("RGB", (_SIDE, _SIDE), (160, 160, 160))
        sink = io.BytesIO()
        image.save(sink, "JPEG", quality=50)
        return sink.getvalue()

    def _measure(self, photo: Photo) -> tuple[int, int]:
        try:
            return open_image(self._read(photo), max_pixels=1 << 62).size
        except (RefusedImageError, OSError):
            return 0, 0

    def _read(self, photo: Photo) -> bytes:
        with (self._folder / photo.path).open("rb") as source:
            return source.read(_MAX_BYTES)
