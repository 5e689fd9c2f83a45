"""A dataset version as a folder of files: images by split and class, ``labels.csv``, and ``export.json``, which says what was done to them.

The folder has the form that ``cosmop run --photos`` reads. With faces blurred, an image in which a face was found is written anew, without
its metadata (an embedded preview would show the face); every other file is the stored bytes. The store is only read.
"""

from __future__ import annotations

import asyncio
import csv
import hashlib
import io
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

from cosmop_common.datasets import ManifestRow, load_dataset
from cosmop_common.errors import InvalidInputError, NotFoundError
from cosmop_common.images import decode_rgb, inspect
from cosmop_common.records import utc_now
from cosmop_common.store import Store

from cosmop_console.faces import THRESHOLD, FaceFinder, blur

_QUALITY = 95
_COLUMNS = ("file", "label", "concept", "split", "group", "image", "sha256", "faces")


@dataclass
class Export:
    """What an export wrote; saved as ``export.json``."""

    dataset: str
    created: str
    images: int = 0
    #: Images of the version whose bytes are gone: erased since it was frozen.
    gone: list[str] = field(default_factory=list)
    #: Whether faces were looked for, and how.
    faces_blurred: bool = False
    face_detector: str = ""
    #: Faces blurred, and image id to how many; images that are not named here are the stored bytes.
    faces: int = 0
    blurred: dict[str, int] = field(default_factory=dict)


async def export_dataset(store: Store, dataset: str, folder: Path, *, blur_faces: bool = False) -> Export:
    """Writes a dataset version into an empty or new folder.

    Args:
        dataset: ``<collection>/<version>``.
        blur_faces: makes faces unrecognisable in the written files.

    Raises:
        InvalidInputError: the folder holds something.
        NotFoundError: there is no such version.
        FaceWeightsError: faces are to be blurred and the detector is not installed.
    """
    await asyncio.to_thread(_must_be_empty, folder)
    record, rows = await load_dataset(store, dataset)
    finder = await asyncio.to_thread(FaceFinder) if blur_faces else None
    export = Export(f"{record.collection}/{record.version}", utc_now().isoformat(), faces_blurred=blur_faces)
    if blur_faces:
        export.face_detector = f"CenterFace, heat at least {THRESHOLD}; a face that it misses stays visible"
    lines = []
    for row in rows:
        try:
            data = await store.get_image(row.image)
        except NotFoundError:
            export.gone.append(row.image)
            continue
        lines.append(await asyncio.to_thread(_write, folder, row, data, finder, export))
    await asyncio.to_thread(_finish, folder, lines, export)
    return export


def _must_be_empty(folder: Path) -> None:
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InvalidInputError(f"{folder} is not an empty folder: name a new one, so that no earlier export is mixed with this one")


def _write(folder: Path, row: ManifestRow, data: bytes, finder: FaceFinder | None, export: Export) -> dict[str, str | int]:
    faces = 0
    suffix = inspect(data).media_type.partition("/")[2].replace("jpeg", "jpg")
    if finder is not None:
        image = decode_rgb(data)
        found = finder.find(image)
        if faces := len(found):
            sink = io.BytesIO()
            blur(image, found).save(sink, "JPEG", quality=_QUALITY)
            data, suffix = sink.getvalue(), "jpg"
            export.blurred[row.image] = faces
            export.faces += faces
    # The name is the stored image's id, whatever was done to the file: labels and facts about it stay findable.
    path = folder / row.split / row.label / f"{row.image}.{suffix}"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    export.images += 1
    return {
        "file": path.relative_to(folder).as_posix(), "label": "human", "concept": row.label, "split": row.split,
        "group": row.group, "image": row.image, "sha256": hashlib.sha256(data).hexdigest(), "faces": faces,
    }  # fmt: skip


def _finish(folder: Path, lines: list[dict[str, str | int]], export: Export) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "labels.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, _COLUMNS)
        writer.writeheader()
        writer.writerows(lines)
    # Last: a folder without it is an export that did not end.
    (folder / "export.json").write_text(json.dumps(asdict(export), indent=1) + "\n", encoding="utf-8")
