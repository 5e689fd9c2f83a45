"""Facts into the read model: each fact changes the columns of its kind, then its image's outcome and consensus.

Applying a fact twice, or facts of different kinds in any order, ends in the same rows: only the last fact of a subject
counts, by its stream sequence.
"""

from __future__ import annotations

import hashlib
import sqlite3
from typing import Any

from cosmop_common.errors import reason_name
from cosmop_common.names import FACT_KINDS, Fact, kind_of
from cosmop_common.pb.cosmop.v1 import facts_pb2
from google.protobuf.timestamp_pb2 import Timestamp

from cosmop_console.consensus import Vote, consensus
from cosmop_console.outcome import COPIES, ImageState, Letter, decide

_KINDS = {
    facts_pb2.DUPLICATE_KIND_UNIQUE: "unique",
    facts_pb2.DUPLICATE_KIND_SAME_HASH: "same_hash",
    facts_pb2.DUPLICATE_KIND_NEAR: "near",
}


class Projection:
    """Applies facts to a read model's connection. The caller commits."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._db = connection
        #: Grows with every change; pages ask whether anything is new by it.
        self.changes = 0

    def apply(self, fact: Fact, sequence: int) -> None:
        """Takes in one fact of any kind, with its stream sequence."""
        self.changes += 1
        if isinstance(fact, facts_pb2.Labelled):
            self._labelled(fact)
        elif isinstance(fact, facts_pb2.Sighted):
            self._sighted(fact)
        elif isinstance(fact, facts_pb2.Classified):
            self._classified(fact)
        else:
            self._staged(fact, sequence)

    def letter(self, letter: facts_pb2.DeadLetter, sequence: int) -> None:
        """Takes in one dead letter; those that are about no image are runs' business."""
        if not (letter.collection and letter.image):
            return
        self.changes += 1
        kind = letter.subject.split(".")[2]
        self._db.execute(
            "INSERT OR REPLACE INTO letters VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (sequence, letter.collection, letter.image, kind, letter.sequence, letter.consumer, letter.reason, letter.attempts, _millis(letter.at)),
        )
        self._touch(letter.collection, letter.image)
        self._decide(letter.collection, letter.image)

    def _staged(self, fact: Fact, sequence: int) -> None:
        """A stage's word: one set of columns of the image's row."""
        kind = kind_of(fact)
        where = (fact.collection, fact.image)
        self._touch(*where)
        row = self._db.execute(f"SELECT {kind}_sequence AS known, kept FROM images WHERE collection = ? AND image = ?", where).fetchone()  # noqa: S608 - kind is one of ours
        if row["known"] is not None and row["known"] > sequence:
            return
        columns = {f"{kind}_sequence": sequence, f"{kind}_at": _millis(fact.at)} | _columns(fact)
        assignments = ", ".join(f"{name} = ?" for name in columns)
        self._db.execute(f"UPDATE images SET {assignments} WHERE collection = ? AND image = ?", (*columns.values(), *where))  # noqa: S608
        self._decide(*where)
        if kind in {"deduplicated", "erased"}:
            # Labels of a copy are labels of the image that is kept: the old one's and the new one's votes change.
            for image in {fact.image, row["kept"], columns.get("kept")} - {None}:
                self._agree(fact.collection, str(image))

    def _sighted(self, fact: facts_pb2.Sighted) -> None:
        where = (fact.collection, fact.image)
        self._touch(*where)
        url_hash = hashlib.sha256(fact.image_url.encode()).hexdigest()[:16]
        robots = facts_pb2.RobotsDecision.Name(fact.robots).removeprefix("ROBOTS_DECISION_").lower()
        self._db.execute(
            "INSERT OR REPLACE INTO sightings VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (*where, url_hash, _millis(fact.at), fact.source, fact.query, fact.page_url, fact.image_url, fact.title,
             fact.licence, fact.author, robots, fact.robots_detail, fact.run),
        )  # fmt: skip
        self._db.execute(
            "UPDATE images SET sightings = (SELECT COUNT(*) FROM sightings s WHERE s.collection = ? AND s.image = ?) WHERE collection = ? AND image = ?",
            (*where, *where),
        )

    def _labelled(self, fact: facts_pb2.Labelled) -> None:
        """A label makes no image: one that was never downloaded has no place in the funnel."""
        where = (fact.collection, fact.image)
        self._db.execute(
            "INSERT OR REPLACE INTO labels VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (*where, fact.labeller, fact.label, fact.unsure, fact.ulid, fact.origin, _millis(fact.at)),
        )
        row = self._db.execute("SELECT kind, kept FROM images WHERE collection = ? AND image = ?", where).fetchone()
        self._agree(*where)
        if row is not None and row["kind"] in COPIES:
            self._agree(fact.collection, row["kept"])

    def _classified(self, fact: facts_pb2.Classified) -> None:
        """A served classifier's word on an image; it makes no image either."""
        self._db.execute(
            "INSERT OR REPLACE INTO classified VALUES (?, ?, ?, ?, ?, ?, ?)",
            (fact.collection, fact.image, fact.model, fact.probability, fact.threshold, fact.uncertain, _millis(fact.at)),
        )

    def _touch(self, collection: str, image: str) -> None:
        """The image's row, made where there is none, with the votes that came before it."""
        made = self._db.execute("INSERT OR IGNORE INTO images (collection, image) VALUES (?, ?)", (collection, image))
        if made.rowcount:
            self._agree(collection, image)

    def _decide(self, collection: str, image: str) -> None:
        row = self._db.execute("SELECT * FROM images WHERE collection = ? AND image = ?", (collection, image)).fetchone()
        letters = self._db.execute("SELECT kind, fact_sequence, reason FROM letters WHERE collection = ? AND image = ?", (collection, image))
        state = ImageState(
            erased=row["erased_sequence"] is not None,
            scrape_refusal=row["scrape_refusal"],
            hash_refusal=row["hash_refusal"],
            screen_refusal=row["screen_refusal"],
            kind=row["kind"],
            people=None if row["people"] is None else bool(row["people"]),
            sequences={kind: row[f"{kind}_sequence"] for kind in ("scraped", "hashed", "deduplicated", "screened") if row[f"{kind}_sequence"] is not None},
            letters=tuple(Letter(r["kind"], r["fact_sequence"], r["reason"]) for r in letters),
        )
        outcome, reason = decide(state)
        self._db.execute("UPDATE images SET outcome = ?, reason = ? WHERE collection = ? AND image = ?", (outcome.value, reason, collection, image))

    def _agree(self, collection: str, image: str) -> None:
        """The consensus on an image from the votes on it and on its copies, without those of erased ones.

        The index is named: without statistics SQLite walks through the whole collection, for every fact.
        """
        rows = self._db.execute(
            """SELECT l.labeller, l.label, l.unsure FROM labels l
               WHERE l.collection = :collection AND l.image IN (
                   SELECT image FROM images WHERE collection = :collection AND image = :image AND erased_sequence IS NULL
                   UNION ALL
                   SELECT image FROM images INDEXED BY images_kept
                   WHERE collection = :collection AND kept = :image AND kind IN ('same_hash', 'near') AND erased_sequence IS NULL)""",
            {"collection": collection, "image": image},
        )
        agreed = consensus(Vote(r["labeller"], r["label"], bool(r["unsure"])) for r in rows)
        self._db.execute(
            "UPDATE images SET verdict = ?, label = ?, labellers = ? WHERE collection = ? AND image = ?",
            (agreed.verdict.value, agreed.label, agreed.labellers, collection, image),
        )


def _columns(fact: Fact) -> dict[str, Any]:
    """The columns that a stage's fact fills."""
    match fact:
        case facts_pb2.Scraped():
            return {
                "size": fact.size, "media_type": fact.media_type, "width": fact.width, "height": fact.height,
                "scrape_refusal": _refusal(fact), "scrape_detail": fact.refusal.detail,
            }  # fmt: skip
        case facts_pb2.Hashed():
            return {
                "phash": f"{fact.phash:016x}", "algorithm": fact.algorithm, "upright_width": fact.width, "upright_height": fact.height,
                "hash_refusal": _refusal(fact), "hash_detail": fact.refusal.detail,
            }  # fmt: skip
        case facts_pb2.Deduplicated():
            return {"kind": _KINDS.get(fact.kind, ""), "kept": fact.kept, "distance": fact.distance, "dedup_threshold": fact.threshold}
        case facts_pb2.Screened():
            refused = fact.HasField("refusal")
            return {
                "people": None if refused else int(fact.people), "score": fact.score, "threshold": fact.threshold, "model": fact.model,
                "uncertain": int(fact.uncertain), "screen_refusal": _refusal(fact), "screen_detail": fact.refusal.detail,
            }  # fmt: skip
        case facts_pb2.Erased():
            return {"erased_reason": fact.reason}
    raise TypeError(f"{type(fact).__name__} is no stage's fact: known are {', '.join(FACT_KINDS)}")


def _refusal(fact: facts_pb2.Scraped | facts_pb2.Hashed | facts_pb2.Screened) -> str:
    return reason_name(fact.refusal.reason) if fact.HasField("refusal") else ""


def _millis(stamp: Timestamp) -> int:
    return stamp.ToMilliseconds()
