"""Sets of stored images, named by one string, whatever made them.

=========================================================  =====================================================
``dataset:<collection>/<version>?split=train&label=sport``  images of a dataset version; both filters optional
``samples:<gan run>/<images shown>``                        a snapshot's samples
``synthetic:<generate run>``                                a synthetic set
``prefix:<folder>``                                         all objects below a folder of keys, with or without a slash
                                                            at its end; where there is none, all whose keys begin so
=========================================================  =====================================================
"""

from __future__ import annotations

import asyncio
import hashlib
import io
import zipfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from urllib.parse import parse_qs

from cosmop_common.errors import InvalidInputError, NotFoundError
from cosmop_common.names import image_key, run_key
from cosmop_common.records import SyntheticRecord
from cosmop_common.store import Store

_IN_FLIGHT = 8


def dataset_set(dataset: str, *, split: str = "", label: str = "") -> str:
    """``dataset:...`` with its filters."""
    filters = "&".join(f"{k}={v}" for k, v in (("split", split), ("label", label)) if v)
    return f"dataset:{dataset}" + (f"?{filters}" if filters else "")


def samples_set(run: str, kimg: float) -> str:
    """``samples:<gan run>/<images shown>``."""
    return f"samples:{run}/{round(kimg * 1000):09d}"


def pack(images: Iterable[tuple[str, bytes]]) -> bytes:
    """Images as one uncompressed zip: how samples and synthetic sets are stored."""
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_STORED) as archive:
        for name, data in images:
            archive.writestr(zipfile.ZipInfo(name), data)
    return sink.getvalue()


_KINDS = ("dataset", "samples", "synthetic", "prefix")


def check_set(spec: str) -> tuple[str, str]:
    """Kind of a set, and what to take. Raises ``InvalidInputError``: no such kind, or nothing to take."""
    kind, _, rest = spec.partition(":")
    if kind not in _KINDS or not rest.strip("/ "):
        raise InvalidInputError(f"{spec!r} names no image set: expected dataset:, samples:, synthetic: or prefix: and what to take")
    return kind, rest


@dataclass(frozen=True)
class ImageSet:
    """A set that was found: its images are known by name, and read when they are needed. Make it with ``open_set``.

    Attributes:
        names: in an order that depends on nothing but the names themselves.
        content_addressed: the names are the sha256 of the images' bytes.
    """

    spec: str
    names: list[str]
    content_addressed: bool
    _read: Callable[[str], Awaitable[bytes]]

    async def read(self, names: Sequence[str]) -> list[bytes]:
        """Encoded bytes of images, in the order of ``names``. Raises ``NotFoundError`` for one that is missing."""
        found: list[bytes] = []
        for start in range(0, len(names), _IN_FLIGHT):
            found += await asyncio.gather(*map(self._read, names[start : start + _IN_FLIGHT]))
        return found


async def open_set(store: Store, spec: str, *, limit: int = 0) -> ImageSet:
    """Finds a set and the names of its images.

    Args:
        limit: at most so many, chosen by the hash of their names; 0: all.

    Raises:
        InvalidInputError: the string names no kind of set.
        NotFoundError: the set does not exist.
    """
    try:
        return await _open(store, spec, limit)
    except NotFoundError as error:
        raise NotFoundError(f"there is no {spec}: {error}") from error


async def _open(store: Store, spec: str, limit: int) -> ImageSet:
    kind, rest = check_set(spec)
    if kind in {"samples", "synthetic"}:
        key = run_key(*_sample_key(rest)) if kind == "samples" else (await SyntheticRecord.load(store, run_key(rest, "synthetic.json"))).samples
        archive = zipfile.ZipFile(io.BytesIO(await store.get(key)))

        async def member(name: str) -> bytes:
            return archive.read(name)

        return ImageSet(spec, _choose(archive.namelist(), limit), content_addressed=False, _read=member)
    if kind == "dataset":
        keys = {name: image_key(name) for name in await _dataset_names(store, rest)}
    else:
        # "mine" is not "mine-too": a folder's name takes its folder, and only a name of none takes all keys that begin so.
        folder = rest.strip("/")
        keys = {key: key async for key in store.list(f"{folder}/")} or {key: key async for key in store.list(folder)}

    async def stored(name: str) -> bytes:
        return await _read(store, spec, keys[name])

    return ImageSet(spec, _choose(keys, limit), content_addressed=kind == "dataset", _read=stored)


async def read_set(store: Store, spec: str, *, limit: int = 0) -> AsyncIterator[tuple[str, bytes]]:
    """Names and encoded bytes of a set's images, in an order that depends on nothing but their names.

    Args:
        limit: at most so many, chosen by the hash of their names; 0: all.

    Raises:
        InvalidInputError: the string names no kind of set.
        NotFoundError: the set, or an image that its manifest names, does not exist.
    """
    images = await open_set(store, spec, limit=limit)
    for start in range(0, len(images.names), _IN_FLIGHT):
        batch = images.names[start : start + _IN_FLIGHT]
        for name, data in zip(batch, await images.read(batch), strict=True):
            yield name, data


async def _read(store: Store, spec: str, key: str) -> bytes:
    try:
        return await store.get(key)
    except NotFoundError as error:
        raise NotFoundError(f"{spec} names {key}, which is not in the object store: restore it, or freeze a version without it") from error


async def _dataset_names(store: Store, rest: str) -> list[str]:
    from cosmop_common.datasets import load_dataset

    dataset, _, query = rest.partition("?")
    filters = {key: values[0] for key, values in parse_qs(query).items()}
    if unknown := set(filters) - {"split", "label"}:
        raise InvalidInputError(f"dataset:{rest}: unknown filter {', '.join(sorted(unknown))}; known are split and label")
    _, rows = await load_dataset(store, dataset)
    return [r.image for r in rows if all(getattr(r, k) == v for k, v in filters.items())]


def _sample_key(rest: str) -> tuple[str, str]:
    run, slash, shown = rest.partition("/")
    if not slash or not shown.isdigit():
        raise InvalidInputError(f"samples:{rest}: expected samples:<gan run>/<images shown>")
    return run, f"snapshots/{int(shown):09d}/samples.zip"


def _choose(names: Iterable[str], limit: int) -> list[str]:
    ordered = sorted(names)
    if limit and len(ordered) > limit:
        ordered = sorted(sorted(ordered, key=lambda n: hashlib.sha256(n.encode()).digest())[:limit])
    return ordered
