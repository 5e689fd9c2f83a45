"""The read model's file: SQLite, one row an image of a collection. It can be deleted at any time and is then built anew."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from cosmop_common.errors import CosmopError

#: A file of another version is thrown away, and the read model is built anew from the facts.
SCHEMA_VERSION = 3

_SCHEMA = """
CREATE TABLE positions (            -- how far each stream has been applied
    stream   TEXT PRIMARY KEY,
    created  TEXT NOT NULL,         -- when the server made the stream: another time means another stream
    sequence INTEGER NOT NULL
) WITHOUT ROWID;

CREATE TABLE images (
    collection TEXT NOT NULL,
    image      TEXT NOT NULL,
    outcome    TEXT NOT NULL DEFAULT 'pending',
    reason     TEXT NOT NULL DEFAULT '',
    verdict    TEXT NOT NULL DEFAULT '',  -- consensus of the labellers: agreed, disputed, unsure
    label      TEXT NOT NULL DEFAULT '',  -- the class, when agreed
    labellers  INTEGER NOT NULL DEFAULT 0,
    sightings  INTEGER NOT NULL DEFAULT 0,
    scraped_sequence INTEGER, scraped_at INTEGER, size INTEGER, media_type TEXT, width INTEGER, height INTEGER,
    scrape_refusal TEXT NOT NULL DEFAULT '', scrape_detail TEXT NOT NULL DEFAULT '',
    hashed_sequence INTEGER, hashed_at INTEGER, phash TEXT, algorithm TEXT, upright_width INTEGER, upright_height INTEGER,
    hash_refusal TEXT NOT NULL DEFAULT '', hash_detail TEXT NOT NULL DEFAULT '',
    deduplicated_sequence INTEGER, deduplicated_at INTEGER, kind TEXT NOT NULL DEFAULT '', kept TEXT, distance INTEGER, dedup_threshold INTEGER,
    screened_sequence INTEGER, screened_at INTEGER, people INTEGER, score REAL, threshold REAL, model TEXT, uncertain INTEGER NOT NULL DEFAULT 0,
    screen_refusal TEXT NOT NULL DEFAULT '', screen_detail TEXT NOT NULL DEFAULT '',
    erased_sequence INTEGER, erased_at INTEGER, erased_reason TEXT NOT NULL DEFAULT '',
    PRIMARY KEY (collection, image)
) WITHOUT ROWID;
CREATE INDEX images_outcome ON images (collection, outcome, reason, sightings);
CREATE INDEX images_kept ON images (collection, kept, kind);

CREATE TABLE sightings (
    collection TEXT NOT NULL, image TEXT NOT NULL, url_hash TEXT NOT NULL, at INTEGER NOT NULL,
    source TEXT NOT NULL, query TEXT NOT NULL, page_url TEXT NOT NULL, image_url TEXT NOT NULL, title TEXT NOT NULL,
    licence TEXT NOT NULL, author TEXT NOT NULL, robots TEXT NOT NULL, robots_detail TEXT NOT NULL, run TEXT NOT NULL,
    PRIMARY KEY (collection, image, url_hash)
) WITHOUT ROWID;

CREATE TABLE labels (
    collection TEXT NOT NULL, image TEXT NOT NULL, labeller TEXT NOT NULL,
    label TEXT NOT NULL, unsure INTEGER NOT NULL, ulid TEXT NOT NULL, origin TEXT NOT NULL, at INTEGER NOT NULL,
    PRIMARY KEY (collection, image, labeller)
) WITHOUT ROWID;
CREATE INDEX labels_labeller ON labels (collection, labeller);

CREATE TABLE classified (           -- what the served classifier was unsure of
    collection TEXT NOT NULL, image TEXT NOT NULL,
    model TEXT NOT NULL, probability REAL NOT NULL, threshold REAL NOT NULL, uncertain INTEGER NOT NULL, at INTEGER NOT NULL,
    PRIMARY KEY (collection, image)
) WITHOUT ROWID;

CREATE TABLE letters (
    sequence INTEGER PRIMARY KEY, collection TEXT NOT NULL, image TEXT NOT NULL,
    kind TEXT NOT NULL, fact_sequence INTEGER NOT NULL, consumer TEXT NOT NULL, reason TEXT NOT NULL, attempts INTEGER NOT NULL, at INTEGER NOT NULL
);
CREATE INDEX letters_image ON letters (collection, image);
"""


class ReadModelBusyError(CosmopError):
    """Another console process holds the read model's folder."""

    permanent = True


def connect(folder: Path) -> sqlite3.Connection:
    """Opens the read model below ``folder``, made or replaced where it is missing, of another version, or damaged.

    Raises:
        ReadModelBusyError: another process has it open.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "readmodel.sqlite"
    try:
        connection = _open(path)
    except sqlite3.OperationalError as error:
        raise ReadModelBusyError(
            f"{path} cannot be opened ({error}): is another console running on it? End it, or set COSMOP_CONSOLE_DATA to another folder"
        ) from error
    except sqlite3.DatabaseError:
        for part in folder.glob("readmodel.sqlite*"):
            part.unlink()
        connection = _open(path)
    return connection


def in_memory() -> sqlite3.Connection:
    """A read model that nobody keeps: for tests, and to count what is elsewhere."""
    connection = sqlite3.connect(":memory:")
    connection.row_factory = sqlite3.Row
    reset(connection)
    return connection


def _open(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=2)
    connection.row_factory = sqlite3.Row
    # Exclusive: one console owns the file. Synchronous off: after a crash of the machine it is built anew, so it need not be durable.
    connection.executescript("PRAGMA locking_mode = EXCLUSIVE; PRAGMA journal_mode = WAL; PRAGMA synchronous = OFF;")
    if connection.execute("PRAGMA user_version").fetchone()[0] != SCHEMA_VERSION:
        reset(connection)
    return connection


def reset(connection: sqlite3.Connection) -> None:
    """Empties the read model: all tables are made anew."""
    connection.commit()
    tables = [row["name"] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    for table in tables:
        connection.execute(f'DROP TABLE "{table}"')
    connection.executescript(_SCHEMA)
    connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
    connection.commit()
