"""The film strip: a caption of any length stands whole beside its row."""

from __future__ import annotations

import io

import numpy as np
from cosmop_gan_trainer.snapshots import film, png
from PIL import Image


def strip(caption: str) -> np.ndarray:
    images = [png(np.full((16, 16, 3), shade, dtype=np.uint8)) for shade in (40, 200)]
    return np.asarray(Image.open(io.BytesIO(film([("0 kimg", images), (caption, images)]))))


def test_a_long_caption_makes_the_margin_wider() -> None:
    short, long = strip("8 kimg*"), strip("12116.672 kimg*")
    assert short.shape == (128, 90 + 2 * 64, 3)
    assert long.shape[1] > short.shape[1]
    margin = long[:, : long.shape[1] - 2 * 64]
    assert (margin < 128).any(), "the caption is there"
    assert (margin[:, :4] == 255).all(), "and touches no edge"
    assert (margin[:, -4:] == 255).all()
    assert (long[:, -128:-64] == 40).all()
    assert (long[:, -64:] == 200).all()
