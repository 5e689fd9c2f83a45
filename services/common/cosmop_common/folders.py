"""A folder of images, uploaded so that services can read it: under a digest of its names and bytes, so that the same folder is uploaded once."""

from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path

from cosmop_common.errors import InvalidInputError
from cosmop_common.names import FOLDERS
from cosmop_common.store import Store

_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif"}
_IN_FLIGHT = 8


async def upload_folder(store: Store, folder: Path) -> str:
    """Uploads the image files below a folder, with their names.

    Returns:
        ``prefix:folders/<digest>/``: an image set (``cosmop_common.imagesets``).

    Raises:
        InvalidInputError: it is no folder, or holds no image file.
    """
    files = await asyncio.to_thread(_image_files, folder)
    names = [p.relative_to(folder).as_posix() for p in files]
    prefix = f"{FOLDERS}{await asyncio.to_thread(_digest, files, names)}/"
    # Left off in the middle, it is completed: the digest covers what it is to hold.
    there = {key async for key in store.list(prefix)}
    missing = [(prefix + name, path) for name, path in zip(names, files, strict=True) if prefix + name not in there]
    for start in range(0, len(missing), _IN_FLIGHT):
        await asyncio.gather(*(_put(store, key, path) for key, path in missing[start : start + _IN_FLIGHT]))
    return f"prefix:{prefix}"


def _image_files(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise InvalidInputError(f"{folder} is no folder: name one that holds images")
    files = sorted(p for p in folder.rglob("*") if p.suffix.lower() in _SUFFIXES and p.is_file())
    if not files:
        raise InvalidInputError(f"{folder} holds no image files ({', '.join(sorted(_SUFFIXES))}): name another folder")
    return files


async def _put(store: Store, key: str, path: Path) -> None:
    await store.put(key, await asyncio.to_thread(path.read_bytes))


def _digest(files: list[Path], names: list[str]) -> str:
    total = hashlib.sha256()
    for path, name in zip(files, names, strict=True):
        total.update(f"{name}\0{hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return total.hexdigest()
