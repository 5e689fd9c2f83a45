"""``folder``: the images of a folder on this machine. A query is its path."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, Mapping
from pathlib import Path
from typing import ClassVar

from cosmop_common.errors import InvalidInputError

from cosmop_scraper.candidate import Candidate, SourceContext
from cosmop_scraper.robots import NOT_APPLICABLE, Verdict
from cosmop_scraper.settings import Settings

SUFFIXES = {".jpg", ".jpeg", ".jpe", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif"}


class FolderError(InvalidInputError):
    """A folder that does not exist, may not be read, or holds no images."""


class FolderSource:
    """Every file below a folder whose name ends like an image's, in the order of their paths."""

    name: ClassVar[str] = "folder"
    description: ClassVar[str] = "images of a folder on the scraper's machine; a query is a path"
    options: ClassVar[Mapping[str, str]] = {}

    def __init__(self, context: SourceContext) -> None:
        self._root = context.settings.folder_root

    @classmethod
    def unavailable(cls, settings: Settings) -> str:
        """Empty where the root of all such folders exists."""
        return "" if settings.folder_root.is_dir() else f"COSMOP_FOLDER_ROOT is {settings.folder_root}, which is no folder"

    async def find(self, query: str) -> AsyncGenerator[Candidate, None]:
        """One candidate a file. Raises ``FolderError``."""
        folder = local_path(query, self._root)
        if not folder.is_dir():
            raise FolderError(f"{folder} is no folder: name one that holds images")
        found = False
        for path in await asyncio.to_thread(_files, folder):
            found = True
            yield local_candidate(path, query=query, page=folder)
        if not found:
            raise FolderError(f"{folder} holds no images: expected files that end in {', '.join(sorted(SUFFIXES))}")

    async def close(self) -> None:
        """Holds nothing."""


def local_path(query: str, root: Path) -> Path:
    """A path as the operator names it, inside ``root``. Raises ``FolderError``."""
    path = Path(query.removeprefix("file://")).expanduser().resolve()
    if not path.is_relative_to(root.resolve()):
        raise FolderError(f"{path} is outside {root}: COSMOP_FOLDER_ROOT says what may be read")
    return path


def local_candidate(path: Path, *, query: str, page: Path) -> Candidate:
    """A local file as a candidate."""
    return Candidate(path.as_uri(), page.as_uri(), query, title=path.stem, path=path, robots=Verdict(NOT_APPLICABLE))


def _files(folder: Path) -> list[Path]:
    found = []
    for parent, folders, names in os.walk(folder):
        folders[:] = sorted(f for f in folders if not f.startswith("."))
        found += [Path(parent) / name for name in sorted(names) if not name.startswith(".") and Path(name).suffix.lower() in SUFFIXES]
    return found
