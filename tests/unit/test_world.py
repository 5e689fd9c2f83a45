"""The drawn world is what it says: deterministic, its copies close, everything else far apart."""

from __future__ import annotations

import csv
import io
from collections import Counter
from pathlib import Path

import imagehash
import numpy as np
import pytest
from cosmop_common.collection import Collection
from cosmop_common.errors import RefusedImageError
from cosmop_common.hamming import near_pairs
from cosmop_common.images import inspect
from cosmop_common.names import sha256_hex
from cosmop_common.pb.cosmop.v1 import facts_pb2
from cosmop_local.world import make_world
from cosmop_local.world.make import WorldSizeError
from cosmop_local.world.phash import phash
from cosmop_local.world.scene import draw
from PIL import Image

COUNT = 72


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world") / "small"
    make_world(folder, seed=3, count=COUNT)
    return folder


def read(folder: Path) -> list[dict[str, str]]:
    with (folder / "labels.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_every_file_is_labelled_and_everything_is_planted(world: Path) -> None:
    lines = read(world / "photos")
    assert sorted(line["file"] for line in lines) == sorted(p.name for p in (world / "photos").glob("*.*[gG]"))
    assert len(lines) == COUNT
    truth = Counter(line["truth"] for line in lines)
    assert truth == {"exact_copy": 2, "near_copy": 6, "blank": 2, "corrupt": 2, "oversized": 1, "keep": COUNT - 13}
    kept = [line for line in lines if line["truth"] == "keep"]
    assert {line["concept"] for line in kept if line["label"] == "human"} >= {"border", "other"}
    assert {line["concept"] for line in kept if line["label"] == "no_human"} == {""}


def test_only_planted_copies_are_alike(world: Path) -> None:
    lines = {line["file"]: line for line in read(world / "photos")}
    drawn = [f for f, line in lines.items() if line["truth"] in {"keep", "exact_copy", "near_copy"}]
    ours = np.array([phash(Image.open(world / "photos" / f)) for f in drawn], np.uint64)
    near = {(drawn[i], drawn[j]) for i, j in near_pairs(ours, 6)}
    # Two copies of one original are near each other too: every pair has one original.
    assert all((lines[a]["copy_of"] or a) == (lines[b]["copy_of"] or b) for a, b in near)
    planted = [line for line in lines.values() if line["copy_of"]]
    assert {frozenset((line["file"], line["copy_of"])) for line in planted} <= {frozenset(pair) for pair in near}
    for line in planted:
        same = sha256_hex((world / "photos" / line["file"]).read_bytes()) == sha256_hex((world / "photos" / line["copy_of"]).read_bytes())
        assert same == (line["truth"] == "exact_copy")


def test_our_hash_agrees_with_imagehash() -> None:
    image = draw((1, 2), "other")
    theirs = int(str(imagehash.phash(image)), 16)
    # They compare with the median and not with the mean, so that a few bits differ.
    assert (phash(image) ^ theirs).bit_count() <= 12
    assert (phash(draw((1, 3), "none")) ^ theirs).bit_count() > 12


def test_damage_is_refused_for_its_reason(world: Path) -> None:
    cap = Collection.load(world / "collection.yaml").scrape.max_bytes
    reasons = Counter()
    for line in read(world / "photos"):
        data = (world / "photos" / line["file"]).read_bytes()
        assert (len(data) > cap) == (line["truth"] == "oversized")
        try:
            inspect(data)
        except RefusedImageError as error:
            assert line["truth"] == "corrupt"
            reasons[error.reason] += 1
    assert reasons == {facts_pb2.REFUSAL_REASON_CORRUPT: 1, facts_pb2.REFUSAL_REASON_NOT_AN_IMAGE: 1}


def test_the_head_is_fitted_on_other_drawings(world: Path) -> None:
    lines = read(world / "fit")
    assert Counter(line["label"] for line in lines) == {"human": 20, "no_human": 20}
    ids = {sha256_hex(p.read_bytes()) for p in (world / "photos").iterdir()}
    assert not ids & {sha256_hex((world / "fit" / line["file"]).read_bytes()) for line in lines}


def test_the_same_seed_is_the_same_world_and_a_finished_one_is_left_alone(world: Path, tmp_path: Path) -> None:
    again = tmp_path / "again"
    make_world(again, seed=3, count=COUNT)
    assert {p.name: p.read_bytes() for p in (again / "photos").iterdir()} == {p.name: p.read_bytes() for p in (world / "photos").iterdir()}
    mine = again / "photos" / "mine.txt"
    mine.touch()
    make_world(again, seed=3, count=COUNT)
    assert mine.exists(), "nothing was made anew"
    (again / "world.json").unlink()
    make_world(again, seed=3, count=COUNT)
    assert not mine.exists(), "an unfinished world is made anew"


def test_equal_seeds_draw_equal_pictures() -> None:
    def png(image: Image.Image) -> bytes:
        out = io.BytesIO()
        image.save(out, "PNG", compress_level=1)
        return out.getvalue()

    assert png(draw((7, 1), "border")) == png(draw((7, 1), "border"))
    assert png(draw((7, 1), "border")) != png(draw((7, 2), "border"))


def test_too_small_a_world_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WorldSizeError, match="60 or more"):
        make_world(tmp_path, count=10)
