"""A folder of photos as a user has it: images anywhere below, and perhaps a ``labels.csv``."""

from __future__ import annotations

import csv
import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from cosmop_common.collection import (
    ClassifierSettings,
    Collection,
    DatasetSettings,
    DedupSettings,
    EvaluationSettings,
    GanSettings,
    ScrapeSettings,
)
from cosmop_common.errors import InvalidInputError

_IMAGES = {".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif"}
#: Words that name what is not the concept.
_NEGATIVE = re.compile(r"^(other|others|none|negative|no|background|rest|not?[-_].*|non[-_].*)$", re.IGNORECASE)


class PhotoFolderError(InvalidInputError):
    """A folder that cannot be used; the message names it and the cure."""


@dataclass(frozen=True)
class PhotoFolder:
    """A folder that was looked through."""

    path: Path
    files: tuple[Path, ...]
    #: ``labels.csv``, where there is one.
    labels: Path | None
    #: Class names in ``labels.csv``, most frequent first.
    concepts: tuple[str, ...]
    #: Lines of ``labels.csv`` that name no file of the folder, one message each.
    missing: tuple[str, ...] = ()

    @classmethod
    def read(cls, path: Path) -> PhotoFolder:
        """Looks through a folder.

        Raises:
            PhotoFolderError: no such folder, no images in it, or a ``labels.csv`` that cannot be read.
        """
        if not path.is_dir():
            raise PhotoFolderError(f"{path} is no folder: give one that holds images (and labels.csv, where labels are known)")
        path = path.resolve()
        files = tuple(sorted(p for p in path.rglob("*") if p.suffix.lower() in _IMAGES and p.is_file()))
        if not files:
            raise PhotoFolderError(f"{path} holds no images ({', '.join(sorted(_IMAGES))}): give a folder of photos")
        labels = path / "labels.csv"
        if not labels.is_file():
            return cls(path, files, None, ())
        return cls(path, files, labels, *_read_labels(labels))

    @property
    def name(self) -> str:
        """The folder's name as a slug."""
        return re.sub(r"[^a-z0-9]+", "-", self.path.name.lower()).strip("-")[:40] or "photos"

    def fingerprint(self, collection: Collection) -> str:
        """What a run over this folder is: names, sizes and times of its files, its labels, the collection's settings."""
        digest = hashlib.sha256(collection.to_json().encode())
        for file in self.files:
            facts = file.stat()
            digest.update(f"{file.relative_to(self.path)}\0{facts.st_size}\0{facts.st_mtime_ns}\n".encode())
        if self.labels:
            digest.update(self.labels.read_bytes())
        return digest.hexdigest()[:12]

    def collection(self) -> Collection:
        """Settings for a folder that came without any: everything small enough for a laptop's ten minutes."""
        classes = self.concepts if len(self.concepts) > 1 else ((*self.concepts, "other") if self.concepts else ("positive", "other"))
        positive = next((c for c in classes if not _NEGATIVE.match(c)), classes[0])
        return Collection(
            name=self.name,
            title=f"Folder {self.path.name}",
            concept=f"Images of people that were labelled {positive}",
            classes=classes,
            positive=positive,
            scrape=ScrapeSettings(
                source="google", keywords=(self.name,), allow_private_addresses=True, requests_per_second=500, connections_per_host=16, min_side=32
            ),
            dedup=DedupSettings(distance=4),
            dataset=DatasetSettings(test_share=0.25, val_share=0.15),
            gan=GanSettings(resolution=32, preset="tiny", kimg=8, snapshots=3, samples=160, synthetic=160, max_seconds=240),
            evaluation=EvaluationSettings(protocol="fid", measures=("kid",), max_images=250),
            classifier=ClassifierSettings(network="efficientnet_lite0", max_seconds=75),
        )


def _read_labels(labels: Path) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Class names, most frequent first; and what is wrong with single lines."""
    counts: dict[str, int] = {}
    missing = []
    try:
        with labels.open(encoding="utf-8-sig", newline="") as source:
            reader = csv.DictReader(source)
            if "file" not in (reader.fieldnames or ()):
                raise PhotoFolderError(
                    f"{labels}: no column 'file': its first line must name the columns file, label (human or no_human) and concept (class names)"
                )
            for row in reader:
                name = (row["file"] or "").strip()
                if name and not (labels.parent / name).is_file():
                    missing.append(f"{labels}, line {reader.line_num}: names {name}, which is not in {labels.parent}: add the image or remove the line")
                    continue
                if concept := (row.get("concept") or "").strip():
                    counts[concept] = counts.get(concept, 0) + 1
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise PhotoFolderError(f"{labels}: cannot be read as CSV in UTF-8: {error}") from error
    return tuple(sorted(counts, key=lambda c: (-counts[c], c))), tuple(missing)
