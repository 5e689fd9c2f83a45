"""PASS as it is published: images without people, in tar parts that are read in place and never unpacked.

Asano, Rupprecht, Zisserman and Vedaldi, "PASS: An ImageNet replacement for self-supervised pretraining without humans", NeurIPS 2021
Datasets and Benchmarks; CC-BY-4.0, 1,439,588 images, 180 GB. A folder holds ``PASS.0.tar`` to ``PASS.9.tar`` (any of them will do, a
part that is still being downloaded too) with members ``PASS_dataset/dummy_folder/<hash>.jpeg``, and ``pass_metadata.csv`` with the
columns ``hash`` and ``unickname``, who took the photo: photos of one person are never parted between training and measuring.

Listing reads the headers only (512 bytes of each member); an image is then read from its offset.
"""

from __future__ import annotations

import csv
import logging
import os
import re
import tarfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from cosmop_common.errors import RefusedImageError
from cosmop_common.pb.cosmop.v1 import facts_pb2

from cosmop_human_detector.errors import TrainingDataError
from cosmop_human_detector.samples import Sample

log = logging.getLogger(__name__)

_SUFFIXES = {".jpeg", ".jpg", ".png"}
_BLOCK = tarfile.BLOCKSIZE


class PassSource:
    """See the module."""

    def __init__(self, folder: Path) -> None:
        """Finds the parts: of a folder, or one part by its path.

        Raises:
            TrainingDataError: there is none.
        """
        self.parts = [folder] if folder.is_file() else sorted(folder.glob("*.tar"), key=_number)
        if not self.parts:
            raise TrainingDataError(f"{folder} holds no tar part of PASS: download PASS.0.tar (and more) and pass_metadata.csv into it, and leave them packed")
        self._metadata = self.parts[0].parent / "pass_metadata.csv"
        self.left_out: Counter[str] = Counter()

    def samples(self) -> Iterator[Sample]:
        """See ``Source``: part by part, in the order of the members; what follows a damaged header or a cut is left out."""
        self.left_out.clear()
        creators = self._creators()
        for part in self.parts:
            for name, offset, size in self._members(part):
                if PurePosixPath(name).suffix.lower() not in _SUFFIXES:
                    continue
                digest = PurePosixPath(name).stem
                yield Sample(
                    name=f"{part.name}/{name}",
                    people=False,
                    source="pass",
                    identity=f"pass:{digest}:{size}",
                    group=f"pass:{creators.get(digest, digest)}",
                    place=(str(part), offset, size),
                )

    def read(self, sample: Sample) -> bytes:
        """See ``Source``."""
        path, offset, size = sample.place
        try:
            with Path(path).open("rb") as file:
                data = os.pread(file.fileno(), size, offset)
        except OSError as error:
            raise RefusedImageError(facts_pb2.REFUSAL_REASON_CORRUPT, f"{sample.name} cannot be read: {error}") from error
        if len(data) != size:
            raise RefusedImageError(facts_pb2.REFUSAL_REASON_CORRUPT, f"{sample.name}: {path} ends {size - len(data)} bytes before the image does")
        return data

    def _members(self, part: Path) -> Iterator[tuple[str, int, int]]:
        """Name, offset and size of each whole regular file in a part."""
        total = part.stat().st_size
        end = 0
        try:
            with tarfile.open(part, "r:") as archive:
                for member in archive:
                    end = member.offset_data + -(-member.size // _BLOCK) * _BLOCK
                    if member.isreg() and member.offset_data + member.size <= total:
                        yield member.name, member.offset_data, member.size
                    # tarfile remembers every member: a part has 144,000.
                    archive.members = []  # type: ignore[attr-defined]
        except (tarfile.TarError, OSError) as error:
            self._damaged(part, str(error))
            return
        # tarfile ends in silence at a header that it cannot read, and in the middle of a file that is cut off.
        with part.open("rb") as file:
            if any(os.pread(file.fileno(), _BLOCK, end)) or end > total:
                self._damaged(part, f"what follows byte {min(end, total):,} is no tar header")

    def _damaged(self, part: Path, why: str) -> None:
        self.left_out["damaged_part"] += 1
        log.warning("%s is damaged or cut off (%s): the images before that are used; download it again for the rest", part, why)

    def _creators(self) -> dict[str, str]:
        """Who took each photo, by its hash; empty without the table."""
        if not self._metadata.exists():
            log.warning("%s is missing: photos of one photographer may be both trained on and measured", self._metadata)
            return {}
        try:
            with self._metadata.open(newline="", encoding="utf-8", errors="replace") as file:
                table = csv.DictReader(file)
                if not {"hash", "unickname"} <= set(table.fieldnames or ()):
                    raise TrainingDataError(f"{self._metadata} lacks the columns hash and unickname: download it again, or take it away to train without it")
                return {row["hash"]: row["unickname"] for row in table if row["unickname"]}
        except (OSError, csv.Error) as error:
            raise TrainingDataError(f"{self._metadata} cannot be read ({error}): download it again, or take it away to train without it") from error


def _number(path: Path) -> tuple[int, str]:
    digits = re.search(r"(\d+)\.tar$", path.name)
    return (int(digits[1]) if digits else -1, path.name)
