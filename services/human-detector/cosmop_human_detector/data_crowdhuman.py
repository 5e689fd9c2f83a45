"""CrowdHuman as it is published: images full of people in zips that are read in place, and annotations as JSON lines.

Shao et al., "CrowdHuman: A Benchmark for Detecting Human in a Crowd", 2018 (arXiv:1805.00123); for research use only: check before
you redistribute anything made of it. A folder holds ``annotation_train.odgt`` and/or ``annotation_val.odgt`` and
``CrowdHuman_train01.zip`` ... with members ``Images/<ID>.jpg``. A line of the annotations is

    {"ID": "...", "gtboxes": [{"tag": "person" | "mask", "fbox": [x, y, w, h], "vbox": ..., "hbox": ...,
                               "extra": {"ignore": 1, "box_id": 0, "occ": 0}, "head_attr": {...}}]}

where ``vbox`` is what is seen of a person, ``fbox`` the whole body, ``hbox`` the head. Their ignore rules: a box whose tag is ``mask``
(a crowd seen from afar, a reflection, a statue) or whose ``extra.ignore`` is 1 counts neither as a person nor as none. An image that
has only such boxes is left out: it is no sure example of anything.
"""

from __future__ import annotations

import json
import logging
import threading
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from cosmop_common.errors import RefusedImageError
from cosmop_common.pb.cosmop.v1 import facts_pb2

from cosmop_human_detector.errors import TrainingDataError
from cosmop_human_detector.samples import Box, Sample

log = logging.getLogger(__name__)


class CrowdHumanSource:
    """See the module."""

    def __init__(self, folder: Path) -> None:
        """Finds annotations and zips.

        Raises:
            TrainingDataError: one of them is missing.
        """
        self.folder = folder
        self.annotations = sorted(folder.glob("*.odgt"))
        self.archives = sorted(folder.glob("*.zip"))
        if not self.annotations or not self.archives:
            missing = "annotation_train.odgt" if not self.annotations else "zip of images (CrowdHuman_train01.zip, ...)"
            raise TrainingDataError(f"{folder} holds no {missing}: download CrowdHuman's files into it, and leave the zips packed")
        self.left_out: Counter[str] = Counter()
        self._zips: dict[str, zipfile.ZipFile] = {}
        # ZipFile shares one file position among its readers.
        self._reading = threading.Lock()

    def samples(self) -> Iterator[Sample]:
        """See ``Source``: in the order of the annotations."""
        self.left_out.clear()
        members = self._members()
        for table in self.annotations:
            for number, line in enumerate(_lines(table), 1):
                identity, boxes, ignored = parse_line(line, f"{table}:{number}")
                if not boxes:
                    self.left_out["only_ignored"] += 1
                elif identity not in members:
                    self.left_out["missing"] += 1
                else:
                    archive, info = members[identity]
                    content = f"crowdhuman:{identity}:{info.file_size}:{info.CRC:08x}"
                    yield Sample(
                        name=info.filename,
                        people=True,
                        source="crowdhuman",
                        identity=content,
                        group=f"crowdhuman:{identity}",
                        place=(archive, 0, info.file_size),
                        boxes=boxes,
                        ignored=ignored,
                    )
        if self.left_out["missing"]:
            log.warning("%s: %d annotated images are in none of the zips there", self.folder, self.left_out["missing"])

    def read(self, sample: Sample) -> bytes:
        """See ``Source``."""
        try:
            with self._reading:
                return self._zip(sample.place[0]).read(sample.name)
        except (OSError, KeyError, zipfile.BadZipFile, zlib.error, NotImplementedError) as error:
            raise RefusedImageError(facts_pb2.REFUSAL_REASON_CORRUPT, f"{sample.name} of {sample.place[0]} cannot be read: {error}") from error

    def _members(self) -> dict[str, tuple[str, zipfile.ZipInfo]]:
        """Each image's archive and directory entry, by the image's ID."""
        members: dict[str, tuple[str, zipfile.ZipInfo]] = {}
        for path in self.archives:
            try:
                infos = self._zip(str(path)).infolist()
            except (OSError, zipfile.BadZipFile) as error:
                self.left_out["damaged_archive"] += 1
                log.warning("%s is no whole zip (%s): its images are left out; download it again", path, error)
                continue
            members |= {PurePosixPath(info.filename).stem: (str(path), info) for info in infos if not info.is_dir()}
        return members

    def _zip(self, path: str) -> zipfile.ZipFile:
        if path not in self._zips:
            self._zips[path] = zipfile.ZipFile(path)
        return self._zips[path]


def parse_line(line: str, where: str) -> tuple[str, tuple[Box, ...], tuple[Box, ...]]:
    """The ID of an annotated image, the visible boxes of the people who count, and the boxes to be ignored.

    Args:
        where: names the line in errors.

    Raises:
        TrainingDataError: the line is no annotation.
    """
    try:
        told: dict[str, Any] = json.loads(line)
        people = told.get("gtboxes", ())
        boxes = tuple(_box(person) for person in people if _counts(person))
        return str(told["ID"]), boxes, tuple(_box(person) for person in people if not _counts(person))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise TrainingDataError(f"{where} is no annotation of CrowdHuman ({error!r}): download the .odgt file again") from error


def _counts(person: dict[str, Any]) -> bool:
    return person["tag"] == "person" and not int((person.get("extra") or {}).get("ignore", 0))


def _box(person: dict[str, Any]) -> Box:
    """What is seen of a person; the whole body where that is not told."""
    x, y, width, height = person.get("vbox") or person["fbox"]
    return Box(float(x), float(y), float(width), float(height))


def _lines(table: Path) -> Iterator[str]:
    try:
        with table.open(encoding="utf-8") as file:
            yield from (line for line in file if line.strip())
    except (OSError, UnicodeDecodeError) as error:
        raise TrainingDataError(f"{table} cannot be read ({error}): download it again") from error
