"""Heat maps: exact for a linear head, right where a patch decides, and pictures that can be looked at."""

from __future__ import annotations

import io

import numpy as np
import pytest
from cosmop_classifier.explain import HeatMap, heat_map, overlay
from cosmop_classifier.heads import Features, KnnHead, LinearHead, MahalanobisHead, SvmHead, unit
from PIL import Image

RNG = np.random.default_rng(0)
#: A map of ones with one cell, (1, 2), that says something else: channel 0 is loud there.
MAP = np.ones((1, 4, 3, 5), np.float32)
MAP[0, 0, 1, 2] = 30.0
FEATURES = Features(MAP.mean((2, 3)), MAP)


def test_of_a_linear_head_the_heat_is_the_logit_cell_by_cell() -> None:
    head = LinearHead(np.array([2.0, -1.0, 0.5, -0.25], np.float32), -0.3)
    feature_map = RNG.random((1, 4, 3, 5)).astype(np.float32)
    features = Features(feature_map.mean((2, 3)), feature_map)
    cells = np.tensordot(head.weight, feature_map[0], axes=1)
    assert cells.mean() + head.bias == pytest.approx(float(head.score(features)[0]), abs=1e-6)
    for positive in (True, False):
        spoken = np.maximum(cells if positive else -cells, 0)
        heat = heat_map(head, features, positive=positive)
        assert heat.method == "grad-cam"
        assert heat.values == pytest.approx(spoken / spoken.max(), abs=1e-6)


def heads() -> list:
    like_it = unit(np.array([[1, 0.01, 0.01, 0.01], [1, 0, 0, 0]], np.float32))
    svm = SvmHead(
        mean=np.zeros(60, np.float32), scale=np.ones(60, np.float32), components=np.eye(60, dtype=np.float32), centre=np.zeros(60, np.float32),
        support=MAP.reshape(1, -1), dual=np.ones(1, np.float32), offset=0.0, gamma=1e-3,
    )  # fmt: skip
    return [KnnHead(like_it, 2), MahalanobisHead(np.array([30, 1, 1, 1], np.float32), np.eye(4, dtype=np.float32)), svm]


@pytest.mark.parametrize("head", heads(), ids=lambda head: head.kind)
def test_of_any_head_the_heat_is_where_the_score_comes_from(head) -> None:
    heat = heat_map(head, FEATURES, positive=True)
    assert heat.method == "feature-occlusion"
    assert heat.values.shape == (3, 5)
    assert np.unravel_index(heat.values.argmax(), (3, 5)) == (1, 2)
    assert heat.values.max() == 1
    assert heat.values.sum() == pytest.approx(1, abs=0.2), "nothing else speaks for it"


def test_where_nothing_speaks_for_the_verdict_the_map_is_cold() -> None:
    heat = heat_map(LinearHead(np.array([1.0, 1, 1, 1], np.float32), -100), FEATURES, positive=False)
    assert not heat.values.any()


def test_the_overlay_is_the_picture_where_it_is_cold_and_coloured_where_it_is_hot() -> None:
    picture = Image.new("RGB", (64, 64), (128, 128, 128))
    values = np.zeros((4, 4), np.float32)
    values[0, 0] = 1
    drawn = np.asarray(Image.open(io.BytesIO(overlay(picture, HeatMap(values, "grad-cam")))), np.float32)
    assert drawn.shape == (64, 64, 3)
    assert (drawn[40:, 40:] == 128).all()
    red, green, blue = drawn[2, 2]
    assert red > green + 30
    assert red > blue + 30
