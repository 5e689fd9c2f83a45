"""A dataset version as a folder: stored bytes untouched, faces blurred where asked, and a record of what was done."""

from __future__ import annotations

import csv
import hashlib
import io
import json
from pathlib import Path

import pytest
from cosmop_common.datasets import ManifestRow, write_manifest
from cosmop_common.errors import InvalidInputError
from cosmop_common.names import dataset_key, image_key
from cosmop_common.records import DatasetRecord, utc_now
from cosmop_common.store import Store
from cosmop_console.dataset_export import export_dataset
from cosmop_console.faces import Face, FaceFinder
from cosmop_console.photo_folder import PhotoFolder
from PIL import Image


def picture(colour: str) -> bytes:
    sink = io.BytesIO()
    image = Image.new("RGB", (120, 90), colour)
    image.paste("white", (40, 20, 60, 40))
    image.save(sink, "PNG")
    return sink.getvalue()


@pytest.fixture
async def dataset(store: Store) -> tuple[str, list[str]]:
    """A version of three images, the last of which is gone."""
    ids = [*sorted([await store.put_image(picture(colour), "image/png") for colour in ("navy", "olive")]), "f" * 64]
    rows = [
        ManifestRow(image=i, label="yes", split=split, group=i, width=120, height=90, labellers=1)
        for i, split in zip(ids, ("train", "test", "train"), strict=True)
    ]
    manifest = write_manifest(rows)
    digest = hashlib.sha256(manifest).hexdigest()
    record = DatasetRecord(
        collection="c", version="v1", created=utc_now(), classes=["yes", "no"], positive="yes", splits={}, left_out={}, group_distance=10,
        sequences={}, manifest_sha256=digest,
    )  # fmt: skip
    await store.put_new(dataset_key("c", "v1", "manifest.parquet"), manifest)
    await record.save_new(store, dataset_key("c", "v1", "dataset.json"))
    return "c/v1", ids


async def test_files_are_the_stored_bytes_and_the_folder_can_be_read_again(store: Store, dataset: tuple[str, list[str]], tmp_path: Path) -> None:
    name, ids = dataset
    done = await export_dataset(store, name, tmp_path / "out")
    assert (done.images, done.gone, done.faces_blurred) == (2, ["f" * 64], False)
    assert (tmp_path / "out" / "train" / "yes" / f"{ids[0]}.png").read_bytes() == await store.get_image(ids[0])
    assert len(PhotoFolder.read(tmp_path / "out").files) == 2
    with pytest.raises(InvalidInputError, match="not an empty folder"):
        await export_dataset(store, name, tmp_path / "out")


async def test_faces_are_blurred_in_the_files_and_not_in_the_store(
    store: Store, dataset: tuple[str, list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, ids = dataset
    before = {image: await store.get_image(image) for image in ids[:2]}
    blue = next(image for image in ids[:2] if before[image] == picture("navy"))

    def find(_self: FaceFinder, image: Image.Image) -> list[Face]:
        return [Face(40, 20, 60, 40, 0.9)] if image.getpixel((0, 0)) == (0, 0, 128) else []

    monkeypatch.setattr(FaceFinder, "find", find)
    tmp_path /= "out"
    done = await export_dataset(store, name, tmp_path, blur_faces=True)
    assert (done.faces, done.blurred) == (1, {blue: 1})
    told = json.loads((tmp_path / "export.json").read_text())
    assert told["blurred"] == {blue: 1}
    with (tmp_path / "labels.csv").open(newline="") as file:
        lines = {row["image"]: row for row in csv.DictReader(file)}
    for image, line in lines.items():
        written = (tmp_path / line["file"]).read_bytes()
        assert hashlib.sha256(written).hexdigest() == line["sha256"]
        assert (written == before[image]) == (image != blue)
        assert await store.get(image_key(image)) == before[image]
    corner = Image.open(tmp_path / lines[blue]["file"]).convert("RGB").getpixel((41, 21))
    assert corner != (255, 255, 255)
