"""The shortcut test: a judge that sees people passes it, one that sees the data set fails, and both are drawn here."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
import pytest
from cosmop_human_detector.samples import Box, Sample
from cosmop_human_detector.shortcut import Crowd, fill, paste, shortcut_test
from cosmop_human_detector.shortcut_data import probes, scores_of
from PIL import Image, ImageDraw

SKIN = (224, 172, 135)


def scene(seed: int, ground: str) -> Image.Image:
    rng = np.random.default_rng(seed)
    image = Image.new("RGB", (160, 120), ground)
    draw = ImageDraw.Draw(image)
    for _ in range(5):
        x, y = (int(v) for v in rng.integers(0, 110, 2))
        draw.rectangle((x, y, x + 20, y + 20), fill=(0, int(rng.integers(0, 120)), int(rng.integers(120, 255))))
    return image


def crowd(seed: int) -> Crowd:
    rng = np.random.default_rng(seed)
    image, boxes = scene(seed, "gray"), []
    draw = ImageDraw.Draw(image)
    for _ in range(4):
        x, y = (int(v) for v in rng.integers(5, 80, 2))
        draw.ellipse((x, y, x + 24, y + 30), fill=SKIN)
        boxes.append(Box(x, y, 25, 31))
    return Crowd(image, tuple(boxes[:3]), tuple(boxes[3:]))


def pixels(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"), np.int64)


def sees_people(images: Sequence[bytes]) -> np.ndarray:
    """The share of skin, squashed."""
    skin = [(np.abs(pixels(data) - SKIN).max(2) < 12).mean() for data in images]
    return np.minimum(1, np.array(skin) * 60)


def sees_the_data_set(images: Sequence[bytes]) -> np.ndarray:
    """Crowds stand on gray, scenes on green: what a corner tells."""
    return np.array([float(pixels(data)[0, 0, 0] > 100) * 0.8 + 0.1 for data in images])


SCENES = [scene(i, "darkgreen") for i in range(12)]
CROWDS = [crowd(100 + i) for i in range(12)]


def test_who_sees_people_follows_them() -> None:
    result = shortcut_test(sees_people, 0.5, SCENES, CROWDS)
    called = {name: share.value for name, (_, share) in result.rows.items()}
    assert called == {"scenes": 0, "pasted": 1, "pasted_control": 0, "crowds": 1, "emptied": 0, "emptied_control": 0}
    assert result.pasted_auroc.value == 1
    assert result.emptied_auroc is not None
    assert result.emptied_auroc.value == 1
    assert result.metrics()["pasted_called_people"].n == 12


def test_who_sees_the_data_set_does_not() -> None:
    result = shortcut_test(sees_the_data_set, 0.5, SCENES, CROWDS)
    called = {name: share.value for name, (_, share) in result.rows.items()}
    # Right on all that it was tested on, and blind.
    assert (called["scenes"], called["crowds"]) == (0, 1)
    assert (called["pasted"], called["emptied"]) == (0, 1)
    assert result.pasted_auroc.value == 0.5
    assert result.emptied_auroc is not None
    assert result.emptied_auroc.value == 0.5


def test_without_boxes_images_are_pasted_whole_and_nothing_is_emptied() -> None:
    result = shortcut_test(sees_people, 0.5, SCENES, [Crowd(c.image) for c in CROWDS])
    assert set(result.rows) == {"scenes", "pasted", "pasted_control"}
    assert result.emptied_auroc is None
    assert result.pasted_auroc.value > 0.9


def test_a_pasted_person_covers_its_share_and_changes_nothing_else() -> None:
    ground = Image.new("RGB", (200, 100), "black")
    pasted = np.asarray(paste(ground, Image.new("RGB", (30, 60), "white"), (0.5, 0.5), share=0.05))
    assert (pasted[..., 0] > 127).sum() == pytest.approx(0.05 * 200 * 100, rel=0.3)
    rows, columns = np.nonzero(pasted[..., 0])
    assert (rows.max() - rows.min()) / (columns.max() - columns.min()) == pytest.approx(2, rel=0.15)
    assert paste(ground, Image.new("RGB", (10, 900), "white"), (1, 1)).size == ground.size


def test_what_is_filled_continues_its_surroundings() -> None:
    ramp = np.tile(np.linspace(0, 255, 90, dtype=np.uint8)[None, :, None], (61, 1, 3))
    image = ramp.copy()
    image[20:40, 30:60] = (255, 0, 0)
    filled = np.asarray(fill(Image.fromarray(image), [Box(30, 20, 30, 20)]), int)
    assert np.abs(filled - ramp).max() < 40
    untouched = np.ones((61, 90), bool)
    untouched[18:42, 27:63] = False
    np.testing.assert_array_equal(filled[untouched], ramp[untouched])
    assert np.asarray(fill(Image.fromarray(image), [Box(-10, -10, 300, 300)])).std() == 0


class Skin:
    """A detector of skin."""

    def prepare(self, data: bytes) -> np.ndarray:
        return pixels(data).astype(np.float32)

    def scores(self, batch: np.ndarray) -> np.ndarray:
        return (np.abs(batch - np.array(SKIN)).max(3) < 12).mean((1, 2)).clip(0, 1)


def test_probes_are_decoded_and_their_boxes_scaled() -> None:
    big = Image.new("RGB", (1280, 960), SKIN)
    samples = [Sample(f"{i}", i % 2 == 0, "s", f"{i}", f"{i}", boxes=(Box(10, 20, 30, 40),) if i % 2 == 0 else ()) for i in range(8)]

    def read(sample: Sample) -> bytes:
        sink = io.BytesIO()
        (big if sample.people else SCENES[0]).save(sink, "PNG")
        return b"damaged" if sample.name == "1" else sink.getvalue()

    found = probes(samples, read, 3)
    assert (len(found.crowds), len(found.scenes), found.enough) == (3, 3, True)
    assert found.crowds[0].image.size == (640, 480)
    assert found.crowds[0].boxes == (Box(5, 10, 15, 20),)
    assert found.crowds[0].person().size == (15, 20)
    sink = io.BytesIO()
    found.crowds[0].image.save(sink, "PNG")
    assert scores_of(Skin())([sink.getvalue()] * 20).tolist() == [1.0] * 20
