"""What the gallery shows: filters over the read model, pages of images, clusters of copies, one image with all its facts."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from cosmop_common.errors import NotFoundError

from cosmop_console.outcome import COPIES, UNIQUE, Outcome

PAGE = 60
CLUSTERS = 12
#: Copies shown of one cluster; the rest are counted.
SHOWN_COPIES = 24

#: What may be asked for as a stage, and the outcomes it stands for.
STAGES: dict[str, tuple[Outcome, ...]] = {
    "all": (),
    "unique": UNIQUE,
    "people": (Outcome.PEOPLE,),
    "none": (Outcome.NONE,),
    "unscreened": (Outcome.UNSCREENED,),
    "copies": COPIES,
    "same_hash": (Outcome.SAME_HASH,),
    "near": (Outcome.NEAR,),
    "rejected": (Outcome.REJECTED,),
    "pending": (Outcome.PENDING,),
    "failed": (Outcome.FAILED,),
    "erased": (Outcome.ERASED,),
}
ORDERS = {
    "newest": "scraped_at DESC, image",
    "oldest": "scraped_at, image",
    "score-high": "score DESC, image",
    "score-low": "score, image",
    "uncertain": "ABS(score - threshold), image",
}
VERDICTS = ("unlabelled", "disputed", "unsure")


@dataclass(frozen=True)
class Filter:
    """What is asked for. Unknown words count as not said, so that an old link still shows something."""

    stage: str = "all"
    reason: str = ""
    #: A class, or one of ``VERDICTS``.
    label: str = ""
    low: float | None = None
    high: float | None = None
    order: str = "newest"
    page: int = 1

    @classmethod
    def parse(cls, asked: Mapping[str, str]) -> Filter:
        """Reads a filter from the words of a query string."""
        page = asked.get("page", "")
        return cls(
            stage=asked.get("stage", "all"),
            reason=asked.get("reason", ""),
            label=asked.get("label", ""),
            low=_number(asked.get("low", "")),
            high=_number(asked.get("high", "")),
            order=asked.get("order", "newest"),
            page=int(page) if page.isdecimal() and len(page) < 9 else 1,  # noqa: PLR2004 - more digits than pages
        )

    def query(self, **changes: Any) -> str:
        """The filter as a query string, with changes."""
        values = vars(self) | changes
        return urlencode({k: v for k, v in values.items() if v not in {"", None} and (k, v) not in {("stage", "all"), ("order", "newest"), ("page", 1)}})

    def where(self, collection: str) -> tuple[str, list[Any]]:
        """The SQL condition and its values."""
        conditions = ["collection = ?"]
        values: list[Any] = [collection]
        if outcomes := STAGES.get(self.stage, ()):
            conditions.append(f"outcome IN ({', '.join('?' * len(outcomes))})")
            values += outcomes
        if self.reason:
            conditions.append("reason = ?")
            values.append(self.reason)
        if self.label == "unlabelled":
            conditions.append("verdict = ''")
        elif self.label in VERDICTS:
            conditions.append("verdict = ?")
            values.append(self.label)
        elif self.label:
            conditions.append("verdict = 'agreed' AND label = ?")
            values.append(self.label)
        for bound, comparison in ((self.low, ">="), (self.high, "<=")):
            if bound is not None:
                conditions.append(f"score {comparison} ?")
                values.append(bound)
        return " AND ".join(conditions), values


@dataclass(frozen=True)
class Page:
    """One page of the gallery."""

    images: Sequence[sqlite3.Row]
    total: int
    page: int
    pages: int


@dataclass(frozen=True)
class Cluster:
    """A kept image and its copies, nearest first."""

    kept: sqlite3.Row
    copies: Sequence[sqlite3.Row]
    total: int


def page(db: sqlite3.Connection, collection: str, asked: Filter) -> Page:
    """The images that a filter shows."""
    where, values = asked.where(collection)
    total = db.execute(f"SELECT COUNT(*) FROM images WHERE {where}", values).fetchone()[0]  # noqa: S608 - conditions of ours, values bound
    pages = max(1, -(-total // PAGE))
    number = min(max(1, asked.page), pages)
    order = ORDERS.get(asked.order, ORDERS["newest"])
    rows = db.execute(f"SELECT * FROM images WHERE {where} ORDER BY {order} LIMIT ? OFFSET ?", (*values, PAGE, (number - 1) * PAGE))  # noqa: S608
    return Page(rows.fetchall(), total, number, pages)


def clusters(db: sqlite3.Connection, collection: str, number: int) -> tuple[list[Cluster], int]:
    """A page of clusters with at least one copy, largest first, and how many pages there are."""
    copies = "collection = ? AND kind IN ('same_hash', 'near') AND outcome IN ('same_hash', 'near')"
    total = db.execute(f"SELECT COUNT(DISTINCT kept) FROM images WHERE {copies}", (collection,)).fetchone()[0]  # noqa: S608
    pages = max(1, -(-total // CLUSTERS))
    found = db.execute(
        f"SELECT kept, COUNT(*) AS n FROM images WHERE {copies} GROUP BY kept ORDER BY n DESC, kept LIMIT ? OFFSET ?",  # noqa: S608
        (collection, CLUSTERS, (min(max(1, number), pages) - 1) * CLUSTERS),
    ).fetchall()
    made = []
    for row in found:
        kept = db.execute("SELECT * FROM images WHERE collection = ? AND image = ?", (collection, row["kept"])).fetchone()
        shown = db.execute(f"SELECT * FROM images WHERE {copies} AND kept = ? ORDER BY distance, image LIMIT ?", (collection, row["kept"], SHOWN_COPIES))  # noqa: S608
        if kept is not None:
            made.append(Cluster(kept, shown.fetchall(), row["n"]))
    return made, pages


def cluster_of(db: sqlite3.Connection, collection: str, kept: str) -> list[sqlite3.Row]:
    """A kept image, then its copies, nearest first."""
    return db.execute(
        """SELECT * FROM images WHERE collection = :c AND image = :k
           UNION ALL
           SELECT * FROM (SELECT * FROM images INDEXED BY images_kept WHERE collection = :c AND kept = :k AND kind IN ('same_hash', 'near')
                          ORDER BY distance, image LIMIT :n)""",
        {"c": collection, "k": kept, "n": SHOWN_COPIES},
    ).fetchall()


def find(db: sqlite3.Connection, collection: str, image: str) -> sqlite3.Row:
    """An image's row. Raises ``NotFoundError``."""
    row: sqlite3.Row | None = db.execute("SELECT * FROM images WHERE collection = ? AND image = ?", (collection, image)).fetchone()
    if row is None:
        raise NotFoundError(f"image {image[:12]}… is not in collection {collection!r}: the gallery lists those that are")
    return row


def sightings(db: sqlite3.Connection, collection: str, image: str) -> list[sqlite3.Row]:
    """Where an image was found, first sighting first."""
    return db.execute("SELECT * FROM sightings WHERE collection = ? AND image = ? ORDER BY at, url_hash", (collection, image)).fetchall()


def labels(db: sqlite3.Connection, collection: str, image: str) -> list[sqlite3.Row]:
    """What labellers say of an image now, on it or on a copy."""
    return db.execute(
        """SELECT * FROM labels WHERE collection = :c AND (label != '' OR unsure) AND (image = :i OR image IN (
               SELECT image FROM images INDEXED BY images_kept WHERE collection = :c AND kept = :i AND kind IN ('same_hash', 'near'))) ORDER BY at""",
        {"c": collection, "i": image},
    ).fetchall()


def reasons(db: sqlite3.Connection, collection: str) -> list[str]:
    """The reasons for which images of a collection were rejected."""
    rows = db.execute("SELECT DISTINCT reason FROM images WHERE collection = ? AND outcome = 'rejected' ORDER BY reason", (collection,))
    return [row["reason"] for row in rows]


def newest(db: sqlite3.Connection, collection: str, limit: int) -> list[sqlite3.Row]:
    """A few images to show a collection by: those with people first, then the newest."""
    return db.execute(
        """SELECT * FROM images WHERE collection = ? AND outcome IN ('people', 'none', 'unscreened')
           ORDER BY outcome != 'people', verdict != 'agreed', scraped_at DESC, image LIMIT ?""",
        (collection, limit),
    ).fetchall()


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
