"""Which images a labeller is shown next, and how far the labelling has come."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

_MINE = "SELECT 1 FROM labels l WHERE l.collection = i.collection AND l.image = i.image AND l.labeller = :labeller AND (l.label != '' OR l.unsure)"
_ASKED = "EXISTS (SELECT 1 FROM classified a WHERE a.collection = i.collection AND a.image = i.image AND a.uncertain)"


@dataclass(frozen=True)
class Progress:
    """Counts over the unique images with people."""

    #: Labelled by this labeller, of all; and images that the labellers agree on, whoever they are.
    mine: int
    total: int
    agreed: int


def queue(db: sqlite3.Connection, collection: str, labeller: str, after: str, limit: int) -> list[sqlite3.Row]:
    """Images with people that the labeller has not judged, those first that the human filter or the served classifier was unsure of.

    The rest come in the order of their ids, which are hashes: at random, and the same on every reload.

    Args:
        after: ``place`` of the last image that the page has; empty to begin.
    """
    return db.execute(
        f"""SELECT image, score, uncertain OR {_ASKED} AS uncertain, upright_width, upright_height,
                   (1 - (uncertain OR {_ASKED})) || image AS place FROM images i
            WHERE collection = :collection AND outcome = 'people' AND place > :after AND NOT EXISTS ({_MINE})
            ORDER BY place LIMIT :limit""",  # noqa: S608 - a constant of ours
        {"collection": collection, "labeller": labeller, "after": after, "limit": limit},
    ).fetchall()


def progress(db: sqlite3.Connection, collection: str, labeller: str) -> Progress:
    """How far a labeller and all of them together have come."""
    row = db.execute(
        f"""SELECT COUNT(*) AS total, COALESCE(SUM(verdict = 'agreed'), 0) AS agreed, COALESCE(SUM(EXISTS ({_MINE})), 0) AS mine
            FROM images i WHERE collection = :collection AND outcome = 'people'""",  # noqa: S608
        {"collection": collection, "labeller": labeller},
    ).fetchone()
    return Progress(row["mine"], row["total"], row["agreed"])


def history(db: sqlite3.Connection, collection: str, labeller: str, limit: int) -> list[sqlite3.Row]:
    """The labeller's last words, newest first: what undo goes back through, also after a reload."""
    return db.execute(
        """SELECT l.image, l.label, l.unsure FROM labels l JOIN images i USING (collection, image)
           WHERE l.collection = ? AND l.labeller = ? AND (l.label != '' OR l.unsure) AND l.origin = 'console' AND i.outcome = 'people'
           ORDER BY l.at DESC, l.ulid DESC LIMIT ?""",
        (collection, labeller, limit),
    ).fetchall()
