"""A folder of labelled images: ``labels.csv``, or the subfolders ``human`` and ``no_human``."""

from __future__ import annotations

import csv
import hashlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from cosmop_common.errors import RefusedImageError
from cosmop_common.pb.cosmop.v1 import facts_pb2

from cosmop_human_detector.errors import TrainingDataError
from cosmop_human_detector.samples import Sample

LABELS = {"human": True, "no_human": False}
_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif"}
_BROKEN = {"corrupt", "oversized", "blank"}


class FolderSource:
    """See the module. Files are hashed as they are listed, so that the same picture under two names is one sample."""

    def __init__(self, folder: Path) -> None:
        """Reads nothing yet."""
        self.folder = folder
        self.left_out: Counter[str] = Counter()

    def samples(self) -> Iterator[Sample]:
        """See ``Source``: by file name.

        Raises:
            TrainingDataError: neither a table nor subfolders, a column or an image is missing, or a path leads out of the folder.
        """
        self.left_out.clear()
        found = labelled_files(self.folder) if (self.folder / "labels.csv").exists() else self._subfolders()
        for file, people, source in found:
            path = self.folder / file
            try:
                with path.open("rb") as stream:
                    identity = hashlib.file_digest(stream, "sha256").hexdigest()
            except OSError as error:
                raise TrainingDataError(
                    f"{self.folder / 'labels.csv'} names {file!r}, which cannot be read ({error}): add the file or take the row out"
                ) from error
            yield Sample(file, people, source, identity, identity, (str(path), 0, 0))

    def read(self, sample: Sample) -> bytes:
        """See ``Source``."""
        try:
            return Path(sample.place[0]).read_bytes()
        except OSError as error:
            raise RefusedImageError(facts_pb2.REFUSAL_REASON_CORRUPT, f"{sample.place[0]} cannot be read: {error}") from error

    def _subfolders(self) -> Iterator[tuple[str, bool, str]]:
        for label, people in LABELS.items():
            paths = sorted(p for p in (self.folder / label).rglob("*") if p.suffix.lower() in _SUFFIXES and p.is_file())
            if not paths:
                raise TrainingDataError(
                    f"{self.folder} has neither labels.csv (columns file and label) nor images in the subfolder {label!r}: "
                    "a folder to train on needs a table, or the subfolders human and no_human"
                )
            for path in paths:
                yield path.relative_to(self.folder).as_posix(), people, self.folder.name


def labelled_files(folder: Path) -> Iterator[tuple[str, bool, str]]:
    """File, people and source of each usable row of a folder's ``labels.csv``, by file name.

    The table has the columns ``file`` (relative path) and ``label`` (human, no_human; rows with another or none are left out), and may
    have ``source`` and ``truth`` (rows whose truth is "corrupt", "oversized" or "blank" are left out).

    Raises:
        TrainingDataError: no ``labels.csv``, a column is missing, or a path leads out of the folder.
    """
    table = folder / "labels.csv"
    try:
        with table.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError) as error:
        raise TrainingDataError(f"{table} cannot be read ({error}): a folder to train on needs it, with the columns file and label") from error
    if not rows or not {"file", "label"} <= set(rows[0]):
        raise TrainingDataError(f"{table} needs the columns file and label, and at least one row")
    for row in sorted(rows, key=lambda r: r["file"]):
        if row["label"] not in LABELS or row.get("truth") in _BROKEN:
            continue
        if not (folder / row["file"]).resolve().is_relative_to(folder.resolve()):
            raise TrainingDataError(f"{table} names {row['file']!r}, which lies outside the folder: use paths below it")
        yield row["file"], LABELS[row["label"]], row.get("source") or ""
