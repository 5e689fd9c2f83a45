"""Dataset versions: what is labelled and settled now, frozen for ever.

A version's name is the hash of its manifest, so freezing the same content again is the same version, and a crash
between its two objects is mended by freezing again.
"""

from __future__ import annotations

import asyncio
import hashlib
import sqlite3
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from cosmop_common.collection import Collection
from cosmop_common.datasets import ManifestRow, load_dataset, write_manifest
from cosmop_common.errors import NotFoundError, NotReadyError
from cosmop_common.names import dataset_key
from cosmop_common.records import DatasetRecord, utc_now
from cosmop_common.store import Store

from cosmop_console.consensus import Verdict
from cosmop_console.outcome import COPIES, Outcome
from cosmop_console.splits import Shares, assign, group_images

_RECORD = "dataset.json"
_MANIFEST = "manifest.parquet"


@dataclass(frozen=True)
class Candidate:
    """An image of a collection, as far as a dataset version asks."""

    image: str
    outcome: Outcome
    verdict: Verdict
    label: str
    labellers: int
    width: int
    height: int
    #: None for images that were never hashed; hashes of different algorithms are never compared.
    phash: int | None
    algorithm: str


def manifest_key(collection: str, version: str) -> str:
    """Object key of a version's manifest."""
    return dataset_key(collection, version, _MANIFEST)


def candidates(db: sqlite3.Connection, collection: str) -> list[Candidate]:
    """All images of a collection that are not erased or refused."""
    rows = db.execute(
        """SELECT image, outcome, verdict, label, labellers, COALESCE(upright_width, width, 0) AS width, COALESCE(upright_height, height, 0) AS height,
                  phash, COALESCE(algorithm, '') AS algorithm
           FROM images WHERE collection = ? AND outcome NOT IN ('erased', 'rejected') ORDER BY image""",
        (collection,),
    )
    return [
        Candidate(
            r["image"], Outcome(r["outcome"]), Verdict(r["verdict"]), r["label"], r["labellers"], r["width"], r["height"],
            None if r["phash"] is None else int(r["phash"], 16), r["algorithm"],
        )
        for r in rows
    ]  # fmt: skip


def select(images: list[Candidate], classes: tuple[str, ...]) -> tuple[dict[str, Candidate], dict[str, int]]:
    """The images that a version takes: kept, with people, and a class that the labellers agree on. And why the others stay out."""
    chosen: dict[str, Candidate] = {}
    left_out: Counter[str] = Counter()
    for image in images:
        if reason := _why_not(image, classes):
            left_out[reason] += 1
        else:
            chosen[image.image] = image
    return chosen, dict(sorted(left_out.items()))


def _why_not(image: Candidate, classes: tuple[str, ...]) -> str:
    if image.outcome in COPIES:
        return "duplicate"
    if image.outcome is Outcome.NONE:
        return "no_people"
    if image.outcome is not Outcome.PEOPLE:
        return image.outcome.value
    if image.verdict is not Verdict.AGREED:
        return image.verdict.value or "unlabelled"
    return "" if image.label in classes else "unknown_class"


def manifest_rows(images: list[Candidate], collection: Collection, before: Mapping[str, str]) -> tuple[list[ManifestRow], dict[str, int]]:
    """The rows of a version, and what was left out by reason. Pure: no clock, no chance, no order.

    Args:
        images: all images of the collection, labelled or not: an unlabelled one can tie two labelled ones together.
        before: image to its split in the version before.
    """
    chosen, left_out = select(images, collection.classes)
    groups: dict[str, str] = {i.image: i.image for i in images}
    for algorithm in sorted({i.algorithm for i in images}):
        hashes = {i.image: i.phash for i in images if i.phash is not None and i.algorithm == algorithm}
        groups |= group_images(hashes, collection.dataset.group_distance)
    shares = Shares(test=collection.dataset.test_share, val=collection.dataset.val_share)
    splits = assign({i: c.label for i, c in chosen.items()}, groups, shares, before)
    rows = [
        ManifestRow(image=i, label=c.label, split=splits[groups[i]], group=groups[i], width=c.width, height=c.height, labellers=c.labellers)
        for i, c in sorted(chosen.items())
    ]
    return rows, left_out


async def freeze(store: Store, db: sqlite3.Connection, collection: Collection, sequences: dict[str, int]) -> DatasetRecord:
    """Freezes a dataset version; the same content again gives the same version.

    Args:
        sequences: last stream sequence of each stream that the read model knows.

    Raises:
        NotReadyError: no image with people has a label that its labellers agree on.
    """
    images = candidates(db, collection.name)
    before = await _newest_splits(store, collection.name)
    rows, left_out = await asyncio.to_thread(manifest_rows, images, collection, before)
    if not rows:
        raise NotReadyError(
            f"collection {collection.name!r} has no labelled image with people to freeze (left out: {_spell(left_out)}): "
            "label some in the console, or import a labels.csv"
        )
    manifest = write_manifest(rows)
    digest = hashlib.sha256(manifest).hexdigest()
    record = DatasetRecord(
        collection=collection.name,
        version=f"v{digest[:12]}",
        created=utc_now(),
        classes=list(collection.classes),
        positive=collection.positive,
        splits=_count(rows),
        left_out=left_out,
        group_distance=collection.dataset.group_distance,
        sequences=sequences,
        manifest_sha256=digest,
    )
    await store.put_new(manifest_key(collection.name, record.version), manifest, "application/vnd.apache.parquet")
    # Last: a version exists when its record does.
    await record.save_new(store, dataset_key(collection.name, record.version, _RECORD))
    return await DatasetRecord.load(store, dataset_key(collection.name, record.version, _RECORD))


async def versions(store: Store, collection: str) -> list[DatasetRecord]:
    """The dataset versions of a collection, newest first."""
    keys = [key async for key in store.list(f"datasets/{collection}/") if key.endswith(f"/{_RECORD}")]
    records = await asyncio.gather(*(DatasetRecord.load(store, key) for key in keys))
    return sorted(records, key=lambda r: (r.created, r.version), reverse=True)


async def _newest_splits(store: Store, collection: str) -> dict[str, str]:
    for record in await versions(store, collection):
        try:
            _, rows = await load_dataset(store, f"{collection}/{record.version}")
        except NotFoundError:
            continue
        return {row.image: row.split for row in rows}
    return {}


def _count(rows: list[ManifestRow]) -> dict[str, dict[str, int]]:
    counts: dict[str, dict[str, int]] = {split: {} for split in ("train", "val", "test")}
    for row in rows:
        counts[row.split][row.label] = counts[row.split].get(row.label, 0) + 1
    return counts


def _spell(left_out: Mapping[str, int]) -> str:
    return ", ".join(f"{n} {reason.replace('_', ' ')}" for reason, n in left_out.items()) or "it holds no image at all"
