"""What a person says of an image: kept as an object of the store first, then said as a fact."""

from __future__ import annotations

import asyncio
import re
import sqlite3
from collections.abc import AsyncIterable
from dataclasses import dataclass, field

from cosmop_common.collection import Collection
from cosmop_common.collections_kv import Collections
from cosmop_common.errors import CosmopError, InvalidInputError, NotFoundError
from cosmop_common.facts import Facts
from cosmop_common.names import label_key
from cosmop_common.pb.cosmop.v1 import facts_pb2
from cosmop_common.records import LabelRecord, utc_now
from cosmop_common.store import Store
from ulid import ULID

from cosmop_console.outcome import Outcome

_LABELLER = re.compile(r"^[A-Za-z0-9][A-Za-z0-9_-]{0,62}$")
_IMAGE = re.compile(r"^[0-9a-f]{64}$")
_IN_FLIGHT = 16


class UnknownClassError(InvalidInputError):
    """A label that is no class of its collection."""


class UnlabellableImageError(NotFoundError):
    """An image that is not in the collection, or that was refused or erased."""


@dataclass(frozen=True)
class Label:
    """One word of one labeller, before it is written."""

    collection: str
    image: str
    labeller: str
    #: A class name; empty takes the label back, or goes with ``unsure``.
    label: str = ""
    unsure: bool = False
    origin: str = "console"
    #: What the caller calls the image: a file name, for messages.
    name: str = ""


@dataclass(frozen=True)
class Written:
    """Where a label is kept, and whether it said anything new."""

    ulid: str
    changed: bool


@dataclass
class ImportOutcome:
    """What an import did."""

    imported: int = 0
    unchanged: int = 0
    refused: list[str] = field(default_factory=list)


class Labels:
    """Writes labels."""

    def __init__(self, facts: Facts, store: Store, collections: Collections, db: sqlite3.Connection) -> None:
        self._facts = facts
        self._store = store
        self._collections = collections
        self._db = db

    async def put(self, label: Label) -> Written:
        """Writes a label: the record, then the fact. The same label again by the same labeller is not written twice.

        Raises:
            NotFoundError: no such collection.
            UnknownClassError: the label is no class of the collection.
            UnlabellableImageError: the image is not in the collection, or was refused or erased.
            InvalidInputError: a labeller's name or an image id that cannot be one.
        """
        check(await self._collections.get(label.collection), label)
        self._check_image(label)
        last = await self._facts.last(facts_pb2.Labelled, label.collection, label.image, label.labeller)
        if last is None and not label.label and not label.unsure:
            return Written("", changed=False)
        if last is not None and (last.fact.label, last.fact.unsure) == (label.label, label.unsure):
            return Written(last.fact.ulid, changed=False)
        ulid, at = str(ULID()).lower(), utc_now()
        record = LabelRecord(
            ulid=ulid, collection=label.collection, image=label.image, labeller=label.labeller, label=label.label,
            unsure=label.unsure, origin=label.origin, at=at,
        )  # fmt: skip
        await record.save_new(self._store, label_key(label.collection, ulid))
        fact = facts_pb2.Labelled(
            collection=label.collection, image=label.image, labeller=label.labeller, label=label.label, unsure=label.unsure, ulid=ulid, origin=label.origin
        )
        fact.at.FromDatetime(at)
        await self._facts.put(fact)
        return Written(ulid, changed=True)

    async def put_all(self, labels: AsyncIterable[Label]) -> ImportOutcome:
        """Writes many labels, some at once. One that cannot be written is reported in ``refused`` and stops nothing.

        A stream of labels that names an image twice with one labeller has its last word win, as single labels do.
        """
        outcome = ImportOutcome()
        slots = asyncio.Semaphore(_IN_FLIGHT)
        in_order: dict[tuple[str, str, str], asyncio.Lock] = {}

        async def one(label: Label) -> None:
            try:
                async with in_order.setdefault((label.collection, label.image, label.labeller), asyncio.Lock()):
                    written = await self.put(label)
            except CosmopError as error:
                if not error.permanent:
                    raise
                outcome.refused.append(f"{label.name or label.image}: {error}")
            else:
                outcome.imported += written.changed
                outcome.unchanged += not written.changed
            finally:
                slots.release()

        async with asyncio.TaskGroup() as group:
            async for label in labels:
                await slots.acquire()
                group.create_task(one(label))
        return outcome

    def _check_image(self, label: Label) -> None:
        where = (label.collection, label.image)
        row = self._db.execute("SELECT outcome, reason FROM images WHERE collection = ? AND image = ?", where).fetchone()
        if row is None:
            raise UnlabellableImageError(f"image {label.image[:12]}… is not in collection {label.collection!r}: it was never scraped")
        if row["outcome"] == Outcome.ERASED:
            raise UnlabellableImageError(f"image {label.image[:12]}… of collection {label.collection!r} was erased")
        if row["outcome"] == Outcome.REJECTED:
            raise UnlabellableImageError(f"image {label.image[:12]}… of collection {label.collection!r} was refused: {row['reason']}")


def check(collection: Collection, label: Label) -> None:
    """Raises when a label cannot be right, whatever is stored."""
    if label.label and label.unsure:
        raise InvalidInputError(f"a label is a class or unsure, not both: {label.label!r}")
    if label.label and label.label not in collection.classes:
        raise UnknownClassError(f"{label.label!r} is no class of collection {collection.name!r}: its classes are {', '.join(collection.classes)}")
    if not _LABELLER.match(label.labeller):
        raise InvalidInputError(f"{label.labeller!r} cannot name a labeller: use letters, digits, dashes and underscores, at most 63")
    if not _IMAGE.match(label.image):
        raise InvalidInputError(f"{label.image!r} is no image id: expected 64 lower-case hex digits")
