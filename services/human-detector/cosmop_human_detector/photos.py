"""Labelled images to fit on: a folder with ``labels.csv``."""

from __future__ import annotations

import csv
import hashlib
from dataclasses import dataclass
from pathlib import Path

from cosmop_human_detector.errors import TrainingDataError

_LABELS = {"human": True, "no_human": False}


@dataclass(frozen=True)
class Photo:
    """One labelled image."""

    #: Path in its folder.
    file: str
    data: bytes
    people: bool
    #: Where it came from; images of one source share habits that are no sign of people.
    source: str

    @property
    def sha256(self) -> str:
        """Its id."""
        return hashlib.sha256(self.data).hexdigest()


def read_folder(folder: Path) -> list[Photo]:
    """The labelled images of a folder, by file name.

    ``labels.csv`` has the columns ``file`` (relative path) and ``label`` (human, no_human; rows with another or none are left out),
    and may have ``source`` and ``truth`` (rows whose truth is "corrupt", "oversized" or "blank" are left out).

    Raises:
        TrainingDataError: no ``labels.csv``, a column or an image is missing, a path leads out of the folder, or a class has no image.
    """
    table = folder / "labels.csv"
    try:
        with table.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError) as error:
        raise TrainingDataError(f"{table} cannot be read ({error}): a folder to train on needs it, with the columns file and label") from error
    if not rows or not {"file", "label"} <= set(rows[0]):
        raise TrainingDataError(f"{table} needs the columns file and label, and at least one row")
    photos = []
    for row in sorted(rows, key=lambda r: r["file"]):
        if row["label"] not in _LABELS or row.get("truth") in {"corrupt", "oversized", "blank"}:
            continue
        path = folder / row["file"]
        if not path.resolve().is_relative_to(folder.resolve()):
            raise TrainingDataError(f"{table} names {row['file']!r}, which lies outside the folder: use paths below it")
        try:
            data = path.read_bytes()
        except OSError as error:
            raise TrainingDataError(f"{table} names {row['file']!r}, which cannot be read ({error}): add the file or take the row out") from error
        photos.append(Photo(row["file"], data, _LABELS[row["label"]], row.get("source") or ""))
    for label, people in _LABELS.items():
        if not any(photo.people == people for photo in photos):
            raise TrainingDataError(f"{table} labels no image {label!r}: a head is fitted on images of both kinds")
    return photos
