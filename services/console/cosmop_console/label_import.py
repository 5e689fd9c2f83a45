"""Labels of a folder of photos: ``labels.csv`` names files, the store knows images by the sha256 of their bytes."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from cosmop_common.errors import InvalidInputError
from cosmop_common.names import sha256_hex


class LabelFileError(InvalidInputError):
    """A ``labels.csv`` that cannot be used; the message names the file and the cure."""


@dataclass(frozen=True)
class LabelledFile:
    """A file with a label, and the image that its bytes are."""

    file: str
    image: str
    label: str


@dataclass
class FolderLabels:
    """What a ``labels.csv`` says."""

    labels: list[LabelledFile] = field(default_factory=list)
    #: Lines that say nothing usable, one message each.
    refused: list[str] = field(default_factory=list)


def read_folder(path: Path, *, column: str = "concept") -> FolderLabels:
    """Reads ``labels.csv`` (or a folder that holds one): each row with a label becomes an image and its class.

    Rows whose ``column`` is empty are unlabelled, which is no fault. Files with the same bytes are one image: said twice
    alike they are one label; contradictory labels of the same bytes are all refused, because nobody knows which is right.

    Raises:
        LabelFileError: no such file, no columns ``file`` and ``column``, or not UTF-8.
    """
    path = path / "labels.csv" if path.is_dir() else path
    found = FolderLabels()
    images: dict[str, list[LabelledFile]] = {}
    for name, label in _rows(path, column):
        file = (path.parent / name).resolve()
        if not file.is_relative_to(path.parent.resolve()):
            found.refused.append(f"{name}: lies outside {path.parent}")
            continue
        try:
            image = sha256_hex(file.read_bytes())
        except OSError as error:
            found.refused.append(f"{name}: cannot be read: {error.strerror or error}")
            continue
        images.setdefault(image, []).append(LabelledFile(name, image, label))
    for files in images.values():
        said = sorted({f.label for f in files})
        if len(said) > 1:
            found.refused.append(f"{', '.join(f.file for f in files)}: the same bytes are labelled {' and '.join(said)}; correct the file")
        else:
            found.labels.append(files[0])
    return found


def _rows(path: Path, column: str) -> Iterator[tuple[str, str]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as source:
            reader = csv.DictReader(source)
            if missing := {"file", column} - set(reader.fieldnames or ()):
                raise LabelFileError(f"{path}: column {', '.join(sorted(missing))} is missing; its first line must name the columns file and {column}")
            for row in reader:
                name, label = (row["file"] or "").strip(), (row[column] or "").strip()
                if name and label:
                    yield name, label
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise LabelFileError(f"{path}: cannot be read as CSV in UTF-8: {error}") from error
