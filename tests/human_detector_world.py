"""Tiny data for training the human filter: drawn scenes, and archives in the formats of PASS and CrowdHuman."""

from __future__ import annotations

import io
import json
import tarfile
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

PERSON = {"tag": "person", "fbox": [0, 0, 30, 60], "vbox": [2, 4, 20, 50], "hbox": [5, 5, 8, 8], "extra": {"box_id": 0, "occ": 0}, "head_attr": {"occ": 0}}


def jpeg(seed: int) -> bytes:
    sink = io.BytesIO()
    Image.new("RGB", (64, 48), (seed * 37 % 256, seed * 91 % 256, seed % 256)).save(sink, "JPEG")
    return sink.getvalue()


def write_pass(folder: Path, parts: int = 2, each: int = 3) -> Path:
    """``PASS.<n>.tar`` with directories among the members, and the table of who took them."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = ["unickname,datetaken,hash,latitude,longitude"]
    for part in range(parts):
        with tarfile.open(folder / f"PASS.{part}.tar", "w") as archive:
            directory = tarfile.TarInfo("PASS_dataset/dummy_folder")
            directory.type = tarfile.DIRTYPE
            archive.addfile(directory)
            for i in range(part * each, (part + 1) * each):
                info = tarfile.TarInfo(f"PASS_dataset/dummy_folder/{i:032x}.jpeg")
                info.size = len(jpeg(i))
                archive.addfile(info, io.BytesIO(jpeg(i)))
                rows.append(f"photographer{i // 2},2010-01-0{i % 9 + 1},{i:032x},,")
    (folder / "pass_metadata.csv").write_text("\n".join(rows) + "\n")
    return folder


def write_crowdhuman(folder: Path, archives: dict[str, dict[str, bytes]], lines: list[dict]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, images in archives.items():
        with zipfile.ZipFile(folder / name, "w") as archive:
            archive.writestr("Images/", b"")
            for identity, data in images.items():
                archive.writestr(f"Images/{identity}.jpg", data)
    (folder / "annotation_train.odgt").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def scene(seed: int, figure: bool) -> bytes:
    """Two shapes, one upon the other; with a figure, the upper one is a head."""
    rng = np.random.default_rng(seed)
    fill, body, other = [tuple(int(v) for v in rng.integers(0, 256, 3)) for _ in range(3)]
    image = Image.new("RGB", (72, 64), fill)
    draw = ImageDraw.Draw(image)
    x, y = (int(v) for v in rng.integers(2, 30, 2))
    draw.rectangle((x, y + 14, x + 32, y + 34), fill=body)
    if figure:
        draw.ellipse((x + 8, y, x + 24, y + 14), fill=(224, 172, 135))
    else:
        draw.rectangle((x + 8, y, x + 24, y + 14), fill=other)
    sink = io.BytesIO()
    image.save(sink, "PNG")
    return sink.getvalue()


def write_world(folder: Path, count: int = 130) -> Path:
    for i in range(count):
        path = folder / ("human" if i % 2 else "no_human") / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(scene(i, figure=bool(i % 2)))
    (folder / "human" / "damaged.png").write_bytes(scene(1001, figure=True)[:200])
    return folder
