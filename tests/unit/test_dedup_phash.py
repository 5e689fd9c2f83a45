"""The hash: exact arithmetic, symmetries from one DCT, and the same bits as other libraries in their modes."""

from __future__ import annotations

import io
import json
import os
import sys
from pathlib import Path

import imagehash
import numpy as np
import pytest
from cosmop_common.errors import InvalidInputError, RefusedImageError
from cosmop_dedup.compat import imagededup_phash, imagehash_phash
from cosmop_dedup.hashing import hash_by, hash_image
from cosmop_dedup.phash import _DCT, SYMMETRIES, hash_bits, low_frequencies, pack, phash, symmetric_hashes
from hypothesis import given, settings
from hypothesis.extra.numpy import arrays
from PIL import Image
from scipy.fft import dctn

TESTS = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(TESTS.parent))
sys.path.insert(0, str(TESTS))
from dedup_pictures import pictures  # noqa: E402 - beside the tests

from benchmarks import imagededup_peer  # noqa: E402

IMAGEHASH_PNG = TESTS / "data" / "imagehash.png"
FROZEN = json.loads((TESTS / "data" / "imagededup_phash.json").read_text())
PICTURES = pictures()
grey_images = arrays(np.uint8, (32, 32))


def picture(seed: int, size: tuple[int, int] = (160, 120), mode: str = "RGB") -> Image.Image:
    """A smooth random picture."""
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 256, (6, 8, len(mode)), dtype=np.uint8)
    return Image.fromarray(small.squeeze()).resize(size, Image.Resampling.BICUBIC)


def encoded(image: Image.Image, kind: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def test_the_matrix_is_whole_and_near_the_orthonormal_dct():
    assert np.array_equal(_DCT, np.rint(_DCT))
    grey = np.random.default_rng(0).integers(0, 256, (32, 32), dtype=np.uint8)
    exact = dctn(grey.astype(float), norm="ortho")[:8, :8]
    assert np.allclose(low_frequencies(grey) / 2.0**30, exact, atol=1.0)


@given(grey_images)
@settings(max_examples=50, deadline=None)
def test_coefficients_are_exact_whatever_the_order_of_addition(grey):
    whole = _DCT.astype(object) @ grey.astype(int).astype(object) @ _DCT.T.astype(object)
    assert np.array_equal(low_frequencies(grey), whole.astype(np.float64))
    ac = sum(int(c) for c in whole.reshape(-1)[1:])
    assert phash(grey) == pack(np.array([63 * int(c) > ac for c in whole.reshape(-1)]))


@given(grey_images)
@settings(max_examples=50, deadline=None)
def test_flips_and_rotations_come_from_one_dct_exactly(grey):
    hashes = symmetric_hashes(low_frequencies(grey))
    for (transpose, flip_rows, flip_columns), found in zip(SYMMETRIES, hashes, strict=True):
        turned = grey.T if transpose else grey
        turned = turned[::-1] if flip_rows else turned
        turned = turned[:, ::-1] if flip_columns else turned
        assert phash(turned) == found


def test_a_batch_equals_one_by_one():
    batch = np.random.default_rng(1).integers(0, 256, (5, 32, 32), dtype=np.uint8)
    bits = hash_bits(low_frequencies(batch))
    assert [pack(b) for b in bits] == [phash(g) for g in batch]


def test_the_default_hash_is_pinned():
    # Change the version in ALGORITHM before you change these.
    found = [f"{hash_image(encoded(picture(seed))).phash:016x}" for seed in range(3)]
    assert found == PINNED
    assert hash_by(encoded(picture(0)), "")[1] == "phash-ac-mean/1"


PINNED = ["fc9848e313c4ff3b", "8ce258b832cb0030", "fc6c8d47db2426db"]


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "LA", "P", "CMYK", "1"])
@pytest.mark.parametrize("size", [(160, 120), (31, 33), (7, 500)])
def test_imagehash_mode_is_bit_exact(mode, size):
    for seed in range(4):
        image = picture(seed, size).convert(mode)
        data = encoded(image, "TIFF")
        assert f"{imagehash_phash(data):016x}" == str(imagehash.phash(Image.open(io.BytesIO(data))))


def test_imagehash_mode_on_imagehashs_own_picture():
    data = IMAGEHASH_PNG.read_bytes()
    assert hash_by(data, "imagehash")[:2] == (0xBA8C84536BD3C366, "imagehash")
    assert str(imagehash.phash(Image.open(IMAGEHASH_PNG))) == "ba8c84536bd3c366"


@pytest.mark.parametrize("seed", range(3))
def test_imagehash_mode_on_jpegs_and_flat_pictures(seed):
    data = encoded(picture(seed, (640, 480)), "JPEG", quality=60)
    assert f"{imagehash_phash(data):016x}" == str(imagehash.phash(Image.open(io.BytesIO(data))))
    flat = encoded(Image.new("RGB", (64, 64), (seed * 100, 7, 7)))
    assert f"{imagehash_phash(flat):016x}" == str(imagehash.phash(Image.open(io.BytesIO(flat))))


@pytest.mark.parametrize("name", PICTURES)
def test_both_modes_are_bit_exact_on_every_kind_of_picture(name):
    data = PICTURES[name]
    assert f"{imagehash_phash(data):016x}" == str(imagehash.phash(Image.open(io.BytesIO(data))))
    # Frozen from the library itself, which wants an environment of its own (tools/imagededup_fixture.py).
    assert f"{imagededup_phash(data):016x}" == FROZEN["hashes"][name]


def test_the_frozen_hashes_are_those_of_these_pictures():
    assert set(FROZEN["hashes"]) == set(PICTURES)
    assert FROZEN["imagededup"] == "0.3.3"


@pytest.mark.skipif("COSMOP_IMAGEDEDUP_PYTHON" not in os.environ, reason="COSMOP_IMAGEDEDUP_PYTHON names no python that has imagededup")
def test_imagededup_itself_still_answers_so(tmp_path):
    files = []
    for number, data in enumerate(PICTURES.values()):
        files.append(tmp_path / f"{number}.image")
        files[-1].write_bytes(data)
    theirs = imagededup_peer.ask(os.environ["COSMOP_IMAGEDEDUP_PYTHON"], do="hash", files=[str(f) for f in files])["hashes"]
    assert theirs == list(FROZEN["hashes"].values())


def test_an_unknown_algorithm_names_the_known_ones():
    with pytest.raises(InvalidInputError, match="imagededup"):
        hash_by(encoded(picture(0)), "ahash")


@pytest.mark.parametrize("algorithm", ["", "imagehash", "imagededup"])
@pytest.mark.parametrize("data", [b"", b"<html></html>", encoded(picture(0), "JPEG")[:500]])
def test_what_is_no_image_is_refused(algorithm, data):
    with pytest.raises(RefusedImageError):
        hash_by(data, algorithm)
