"""The funnel: what became of every completed download of a collection, counted so that nothing is lost.

Conservation (docs/architecture.md) holds by construction: every download is a sighting of some image; of an image's sightings one stands
for the image and the rest are exact duplicates; and every distinct image has exactly one outcome.

- An image whose sighting has not arrived yet, or never will (a stage spoke of it, so it was downloaded), counts as one download.
- A sighting whose image nothing else is known of is a download that is pending.
- Further sightings of a refused or an erased image are exact duplicates as well.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from dataclasses import dataclass, field

from cosmop_console.outcome import COPIES, UNIQUE, Outcome


@dataclass(frozen=True)
class Funnel:
    """Counts of one collection, named as ``report.json`` names them."""

    scraped: int = 0
    rejected: dict[str, int] = field(default_factory=dict)
    unique: int = 0
    duplicates: dict[str, int] = field(default_factory=dict)
    people: int = 0
    none: int = 0
    unscreened: int = 0
    pending: int = 0
    failed: int = 0
    erased: int = 0
    #: Unique images by the class that their labellers agree on.
    labelled: dict[str, int] = field(default_factory=dict)

    @property
    def conserved(self) -> bool:
        """Whether the sums hold."""
        parts = self.unique + sum(self.duplicates.values()) + sum(self.rejected.values()) + self.pending + self.failed + self.erased
        return self.scraped == parts and self.unique == self.people + self.none + self.unscreened


def count(db: sqlite3.Connection, collection: str) -> Funnel:
    """The funnel of a collection as the read model has it now; all zero for one without images."""
    rows = db.execute(
        "SELECT outcome, reason, COUNT(*) AS images, SUM(MAX(sightings, 1)) AS downloads FROM images WHERE collection = ? GROUP BY outcome, reason",
        (collection,),
    )
    images: Counter[str] = Counter()
    rejected: Counter[str] = Counter()
    downloads = 0
    for row in rows:
        downloads += row["downloads"]
        images[row["outcome"]] += row["images"]
        if row["outcome"] == Outcome.REJECTED:
            rejected[row["reason"]] += row["images"]
    labelled = db.execute(
        f"SELECT label, COUNT(*) AS images FROM images WHERE collection = ? AND verdict = 'agreed' AND outcome IN ({_marks(UNIQUE)}) GROUP BY label",  # noqa: S608 - question marks
        (collection, *UNIQUE),
    )
    return Funnel(
        scraped=downloads,
        rejected=dict(sorted(rejected.items())),
        unique=sum(images[o] for o in UNIQUE),
        duplicates={"exact": downloads - images.total(), **{o.value: images[o] for o in COPIES}},
        people=images[Outcome.PEOPLE],
        none=images[Outcome.NONE],
        unscreened=images[Outcome.UNSCREENED],
        pending=images[Outcome.PENDING],
        failed=images[Outcome.FAILED],
        erased=images[Outcome.ERASED],
        labelled={row["label"]: row["images"] for row in labelled},
    )


def _marks(values: tuple[Outcome, ...]) -> str:
    return ", ".join("?" * len(values))
