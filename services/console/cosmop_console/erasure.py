"""Erasing images: a tombstone first, which every stage honours, then their bytes and all that can be made again.

What learned from an image or shows it (dataset versions, models, GAN runs with their samples, reports) is immutable and stays: the tombstone
and the answer name it, so that a person can decide what to make anew. A version frozen afterwards is without the image.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from cosmop_common.datasets import ManifestRow, parse_manifest
from cosmop_common.errors import InvalidInputError, NotFoundError
from cosmop_common.facts import Facts
from cosmop_common.names import image_key
from cosmop_common.pb.cosmop.v1 import facts_pb2
from cosmop_common.records import GanRunRecord, ModelCard, SyntheticRecord
from cosmop_common.store import Store

from cosmop_console.outcome import Outcome

log = logging.getLogger(__name__)

_ID_LENGTH = 64
#: Of a human filter's card: so many digits of the ids of the images that it was fitted on.
_FITTED_DIGITS = 12
#: Caches whose keys do not tell which images they hold; all of them may be deleted at any time (docs/architecture.md).
_UNTOLD_CACHES = ("prepared/", "features/")


@dataclass(frozen=True)
class Request:
    """What is to be erased, and who asks."""

    collection: str
    images: Sequence[str]
    reason: str = ""
    requested_by: str = ""
    #: In all collections that have seen an image.
    everywhere: bool = False


@dataclass
class Erased:
    """What became of one image."""

    image: str
    collections: list[str]
    #: Collections that still use the bytes: those are then still there.
    used_by: list[str]
    held_by: list[str] = field(default_factory=list)


async def erase(facts: Facts, store: Store, catalog: sqlite3.Connection, request: Request, forget: Callable[[str], None]) -> tuple[list[Erased], list[str]]:
    """Erases images; again with the same request, it does nothing more.

    Args:
        catalog: the read model, caught up.
        forget: deletes an image's renditions on this machine.

    Returns:
        What became of each image, and the prefixes of the caches that were cleared.

    Raises:
        InvalidInputError: an id is none.
        NotFoundError: the collection has never seen an image; nothing is done.
    """
    found = [_place(catalog, request, image) for image in dict.fromkeys(request.images)]
    holders = await _Holders.read(store)
    for one in found:
        one.held_by = holders.of(one.image, one.collections)
        for collection in one.collections:
            await facts.put(
                facts_pb2.Erased(collection=collection, image=one.image, reason=request.reason, requested_by=request.requested_by, held_by=one.held_by)
            )
    for one in found:
        if not one.used_by:
            await store.delete(image_key(one.image))
        forget(one.image)
        log.info("erased", extra={"image": one.image, "collections": one.collections, "bytes_kept_for": one.used_by})
    return found, await _clear_caches(store, holders, found)


def _place(catalog: sqlite3.Connection, request: Request, image: str) -> Erased:
    """Where an image is to be erased, and who uses it beyond that."""
    if len(image) != _ID_LENGTH or set(image) - set("0123456789abcdef"):
        raise InvalidInputError(f"{image[:80]!r} is no image id: expected the {_ID_LENGTH} hex digits of its sha256, as the console shows it")
    seen = {row["collection"]: row["outcome"] for row in catalog.execute("SELECT collection, outcome FROM images WHERE image = ?", (image,))}
    if request.collection not in seen:
        others = f" ({', '.join(sorted(seen))} has)" if seen else ""
        raise NotFoundError(f"collection {request.collection!r} has never seen image {image[:12]}…{others}: nothing was erased")
    collections = sorted(seen) if request.everywhere else [request.collection]
    used_by = sorted(c for c, outcome in seen.items() if c not in collections and outcome != Outcome.ERASED)
    return Erased(image, collections, used_by)


@dataclass
class _Holders:
    """Who holds images, by what is written of them in the store."""

    #: Dataset version to its rows by image.
    versions: dict[str, dict[str, ManifestRow]]
    cards: list[ModelCard]
    gan_runs: list[GanRunRecord]
    synthetic: list[SyntheticRecord]
    #: Report's run to the dataset version that it tells of.
    reports: dict[str, str]

    @classmethod
    async def read(cls, store: Store) -> _Holders:
        """Reads manifests, cards and records; of reports their numbers."""
        holders = cls({}, [], [], [], {})
        async for key in store.list("datasets/"):
            _, collection, version, name = key.split("/", 3)
            if name == "manifest.parquet":
                holders.versions[f"{collection}/{version}"] = {row.image: row for row in parse_manifest(await store.get(key))}
        async for key in store.list("models/"):
            if key.endswith("/card.json"):
                holders.cards.append(await ModelCard.load(store, key))
        async for key in store.list("runs/"):
            if key.endswith("/gan.json"):
                holders.gan_runs.append(await GanRunRecord.load(store, key))
            elif key.endswith("/synthetic.json"):
                holders.synthetic.append(await SyntheticRecord.load(store, key))
        async for key in store.list("reports/"):
            if key.endswith("/report.json"):
                told = await store.get_json(key)
                holders.reports[key.split("/")[1]] = f"{told['collection']}/{(told.get('dataset') or {}).get('version', '')}"
        return holders

    def versions_of(self, image: str, collections: Sequence[str]) -> set[str]:
        """Dataset versions of these collections that hold an image."""
        return {version for version, images in self.versions.items() if image in images and version.partition("/")[0] in collections}

    def of(self, image: str, collections: Sequence[str]) -> list[str]:
        """All that holds an image: ``dataset …``, ``model …``, ``run …``, ``report …``."""
        versions = self.versions_of(image, collections)
        runs = {r.run for r in self.gan_runs if r.dataset in versions and _learned(r, self.versions[r.dataset][image])}
        told = [
            *(f"dataset {v}" for v in versions),
            *(f"model {c.name}/{c.version}" for c in self.cards if c.dataset in versions or image[:_FITTED_DIGITS] in c.details.get("fitted_on", [])),
            *(f"run {r}" for r in runs),
            *(f"run {s.run}" for s in self.synthetic if s.gan_run in runs),
            *(f"report {run}" for run, version in self.reports.items() if version in versions),
        ]
        return sorted(told)


def _learned(run: GanRunRecord, row: ManifestRow) -> bool:
    """Whether a GAN run learned from an image: from one class of the train split, or from all."""
    return row.split == "train" and run.label in {"", row.label}


async def _clear_caches(store: Store, holders: _Holders, found: Sequence[Erased]) -> list[str]:
    """Deletes pixels and features that may be of these images. Whoever needs them makes them again."""
    versions = {v for one in found for v in holders.versions_of(one.image, one.collections)}
    if not versions:
        # Caches are made of dataset versions.
        return []
    cleared = []
    for prefix in (*_UNTOLD_CACHES, *(f"datasets/{v}/features/" for v in sorted(versions))):
        keys = [key async for key in store.list(prefix)]
        for key in keys:
            await store.delete(key)
        if keys:
            cleared.append(prefix)
    return cleared
