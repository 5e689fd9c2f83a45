"""What a GAN learns from, read from a real object store: a dataset version, a folder, its classes; and what was prepared before."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from cosmop_common.errors import InvalidInputError, NotFoundError
from cosmop_common.folders import upload_folder
from cosmop_common.pb.cosmop.v1 import runs_pb2
from cosmop_common.store import Store
from cosmop_gan_trainer.data import Images, square
from cosmop_gan_trainer.presets import configure
from cosmop_gan_trainer.reading import find_parts, read_images
from PIL import Image


def png(k: int, size: tuple[int, int] = (40, 24), mode: str = "RGB") -> bytes:
    sink = io.BytesIO()
    Image.fromarray(np.random.default_rng(k).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)).convert(mode).save(sink, "PNG")
    return sink.getvalue()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "cats").mkdir()
    (tmp_path / "dogs").mkdir()
    for k, mode in enumerate(("RGB", "L", "RGBA", "P", "1")):
        (tmp_path / ("cats" if k % 2 else "dogs") / f"{k}.png").write_bytes(png(k, (30 + k, 20), mode))
    (tmp_path / "cats" / "broken.jpg").write_bytes(b"\xff\xd8\xff cut off")
    (tmp_path / "notes.txt").write_text("not for training")
    return tmp_path


def job(dataset: str, label: str = "") -> runs_pb2.TrainGanJob:
    return runs_pb2.TrainGanJob(dataset=dataset, label=label, resolution=16, kimg=1)


async def read(store: Store, dataset: str, **options: str) -> tuple[Images, list[str]]:
    config = configure("tiny", 16, options=options)
    parts = await find_parts(store, job(dataset), conditional=config.watch.conditional)
    return await read_images(store, list(parts.values()), config, lambda _: None), list(parts)


async def test_a_folder_is_uploaded_once_and_prepared_once(store: Store, folder: Path) -> None:
    dataset = await upload_folder(store, folder)
    assert await upload_folder(store, folder) == dataset, "the same names and bytes are the same folder"
    images, classes = await read(store, dataset)
    assert (len(images.pixels), classes) == (5, [""])
    assert [name.endswith("cats/broken.jpg") for name in images.refused] == [True]

    prepared = [key async for key in store.list("prepared/")]
    assert len(prepared) == 2, "one shard and the index"
    # From here on the originals are not read: what was prepared is the same without them.
    for key in [k async for k in store.list("folders/")]:
        await store.put(key, b"")
    again, _ = await read(store, dataset)
    assert all(np.array_equal(a, b) for a, b in zip(again.pixels, images.pixels, strict=True))
    assert (again.labels, again.refused) == (images.labels, images.refused)
    fitted, _ = await read(store, dataset, crop="fit")
    assert not fitted.pixels, "another cut is another key: it reads the originals"

    await store.put(next(k for k in prepared if k.endswith(".safetensors")), b"damaged")
    damaged, _ = await read(store, dataset)
    assert not damaged.pixels, "a damaged shard is not believed"


async def test_sub_folders_are_the_classes_of_a_conditional_run(store: Store, folder: Path) -> None:
    images, classes = await read(store, await upload_folder(store, folder), conditional="true")
    assert classes == ["cats", "dogs"]
    assert images.labels == [0, 0, 1, 1, 1]
    (folder / "loose.png").write_bytes(png(9))
    with pytest.raises(InvalidInputError, match=r"loose\.png lies in no sub-folder"):
        await read(store, await upload_folder(store, folder), conditional="true")


async def test_a_folder_that_cannot_be_learned_is_refused_with_the_cure(store: Store, folder: Path, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="holds no images"):
        await read(store, "prefix:folders/nothing/")
    with pytest.raises(InvalidInputError, match="a folder has no labels"):
        await find_parts(store, job(await upload_folder(store, folder), "cats"), conditional=False)
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(InvalidInputError, match="holds no image files"):
        await upload_folder(store, empty)


@pytest.mark.parametrize("size", [(64, 20), (20, 64), (17, 17), (3, 200)])
def test_an_image_of_any_aspect_becomes_square(size: tuple[int, int]) -> None:
    white = Image.new("RGB", size, "white")
    sink = io.BytesIO()
    white.save(sink, "PNG")
    centre, fit = square(sink.getvalue(), 16), square(sink.getvalue(), 16, "fit")
    assert centre.shape == fit.shape == (16, 16, 3)
    assert centre.min() == 255, "nothing but the image"
    inside = round(16 * min(size) / max(size)) or 1
    assert (fit > 127).sum() == pytest.approx(16 * inside * 3, abs=16 * 3)
