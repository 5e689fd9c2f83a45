"""Labelled images with their bytes: what features are taken from."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from cosmop_human_detector.data_folder import LABELS, FolderSource
from cosmop_human_detector.errors import TrainingDataError


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
    """The labelled images of a folder, by file name; see ``data_folder`` for what a folder holds.

    Raises:
        TrainingDataError: the folder cannot be trained on, or a class has no image.
    """
    source = FolderSource(folder)
    photos = [Photo(s.name, source.read(s), s.people, s.source) for s in source.samples()]
    for label, people in LABELS.items():
        if not any(photo.people == people for photo in photos):
            raise TrainingDataError(f"{folder / 'labels.csv'} labels no image {label!r}: a head is fitted on images of both kinds")
    return photos
