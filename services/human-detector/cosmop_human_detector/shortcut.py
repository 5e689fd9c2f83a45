"""Does a filter see people, or the data set? Two interventions, each with a control that has everything but the people.

Where all images with people are crowds and all others are scenes, 90 % can be had from a shortcut: from what sets the two collections
of photos apart. A filter that sees people changes its word when the people change and nothing else does:

=============  ==========================================================  ========================================================
what is done   to the test image                                           to its control
=============  ==========================================================  ========================================================
``pasted``     one small person is pasted into a scene without people      a piece of another scene is pasted in the same way
``emptied``    all people of a crowd are filled with what is around them   the same boxes of a scene without people are filled
=============  ==========================================================  ========================================================

``python -m cosmop_human_detector.shortcut --data pass:... --data crowdhuman:...`` tests a model on real photos. No torch, no NATS.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from cosmop_common.records import Value
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from cosmop_human_detector.measures import auroc, wilson
from cosmop_human_detector.samples import Box

#: Share of the scene that a pasted person's box covers.
PASTED_SHARE = 0.04
#: Boxes of people are enlarged by this share of each side before they are filled: shadows, hair, bags.
_MARGIN = 0.1
_SMALLEST = 4

Scores = Callable[[Sequence[bytes]], NDArray[np.float64]]


@dataclass(frozen=True)
class Crowd:
    """An image with people."""

    image: Image.Image
    #: Visible parts of people, in pixels of the image; empty where they are not known: the image as a whole is then what is pasted.
    boxes: tuple[Box, ...] = ()
    #: Where there may be more people, who are filled too.
    ignored: tuple[Box, ...] = ()

    def person(self) -> Image.Image:
        """The largest person, cut out."""
        if not self.boxes:
            return self.image
        box = max(self.boxes, key=lambda b: b.area)
        left, top = max(0, math.floor(box.x)), max(0, math.floor(box.y))
        right, bottom = min(self.image.width, math.ceil(box.x + box.width)), min(self.image.height, math.ceil(box.y + box.height))
        return self.image.crop((left, top, max(left + 1, right), max(top + 1, bottom)))


@dataclass(frozen=True)
class ShortcutResult:
    """What the interventions did. Each row: mean score, and the share that the filter calls people."""

    rows: dict[str, tuple[float, Value]]
    #: How well the scores tell a pasted person from a pasted piece of scenery, and a crowd from the same crowd emptied: the areas under
    #: the ROC curves. 0.5 is a filter that sees no people.
    pasted_auroc: Value
    emptied_auroc: Value | None

    def metrics(self) -> dict[str, Value]:
        """For a model's card."""
        found = {f"{name}_called_people": share for name, (_, share) in self.rows.items()}
        found |= {f"{name}_mean_score": Value(value=mean, n=share.n) for name, (mean, share) in self.rows.items()}
        found["pasted_auroc"] = self.pasted_auroc
        return found | ({"emptied_auroc": self.emptied_auroc} if self.emptied_auroc else {})


def shortcut_test(scores: Scores, threshold: float, scenes: Sequence[Image.Image], crowds: Sequence[Crowd], *, seed: int = 0) -> ShortcutResult:
    """Runs both interventions with their controls.

    Args:
        scores: encoded images to scores in [0, 1].
        scenes: without people; at least two.
        crowds: with people; those whose boxes are not known are only cut from, not emptied.
    """
    rng = np.random.default_rng(seed)
    persons = [crowds[i % len(crowds)].person() for i in range(len(scenes))]
    # The same place and size in both, so that only what is pasted differs.
    places = [(rng.random(), rng.random()) for _ in scenes]
    pieces = [_piece(scenes[(i + 1) % len(scenes)], person.size, rng) for i, person in enumerate(persons)]
    sets: dict[str, list[Image.Image]] = {
        "scenes": list(scenes),
        "pasted": [paste(s, p, place) for s, p, place in zip(scenes, persons, places, strict=True)],
        "pasted_control": [paste(s, p, place) for s, p, place in zip(scenes, pieces, places, strict=True)],
    }
    if known := [c for c in crowds if c.boxes]:
        sets["crowds"] = [c.image for c in known]
        sets["emptied"] = [fill(c.image, [*c.boxes, *c.ignored]) for c in known]
        sets["emptied_control"] = [_filled_alike(scenes[i % len(scenes)], c) for i, c in enumerate(known)]
    found = {name: scores([_png(image) for image in images]) for name, images in sets.items()}
    rows = {name: (float(s.mean()), wilson(int((s >= threshold).sum()), len(s))) for name, s in found.items()}
    emptied = _apart(found["crowds"], found["emptied"]) if known else None
    return ShortcutResult(rows, _apart(found["pasted"], found["pasted_control"]), emptied)


def paste(scene: Image.Image, patch: Image.Image, place: tuple[float, float], share: float = PASTED_SHARE) -> Image.Image:
    """A patch pasted into a scene, its edges feathered.

    Args:
        place: where, as shares of the room that the scene leaves.
        share: of the scene's area that the patch will cover.
    """
    scale = math.sqrt(share * scene.width * scene.height / (patch.width * patch.height))
    scale = min(scale, scene.width / patch.width, scene.height / patch.height)
    small = patch.resize((max(_SMALLEST, int(patch.width * scale)), max(_SMALLEST, int(patch.height * scale))), Image.Resampling.LANCZOS)
    feather = max(1, min(small.size) // 12)
    mask = Image.new("L", small.size, 0)
    ImageDraw.Draw(mask).rectangle((feather, feather, small.width - 1 - feather, small.height - 1 - feather), fill=255)
    mask = mask.filter(ImageFilter.GaussianBlur(feather / 2))
    canvas = scene.copy()
    canvas.paste(small, (int((scene.width - small.width) * place[0]), int((scene.height - small.height) * place[1])), mask)
    return canvas


def fill(image: Image.Image, boxes: Sequence[Box]) -> Image.Image:
    """An image whose boxes are filled smoothly with what is around them.

    Push and pull over a pyramid (Gortler et al., "The Lumigraph", SIGGRAPH 1996, section 3.4): known pixels are averaged into ever
    coarser levels, holes are then filled from the level above. Where nothing is known, the image becomes grey.
    """
    known: NDArray[np.float32] = np.ones((image.height, image.width, 1), np.float32)
    for box in boxes:
        left, top = box.x - _MARGIN * box.width, box.y - _MARGIN * box.height
        right, bottom = box.x + (1 + _MARGIN) * box.width, box.y + (1 + _MARGIN) * box.height
        known[max(0, math.floor(top)) : max(0, math.ceil(bottom)), max(0, math.floor(left)) : max(0, math.ceil(right))] = 0
    pixels = np.asarray(image, np.float32)
    filled = _pull(pixels * known, known) if known.any() else np.full_like(pixels, 127)
    return Image.fromarray(np.clip(np.round(np.where(known > 0, pixels, filled)), 0, 255).astype(np.uint8))


def _pull(colour: NDArray[np.float32], weight: NDArray[np.float32]) -> NDArray[np.float32]:
    """Colours (premultiplied by their weights in [0, 1]) with every hole filled."""
    height, width = weight.shape[:2]
    if weight.min() > 0 or max(height, width) == 1:
        return np.asarray(colour / np.maximum(weight, 1e-6), np.float32)
    pad = ((0, height % 2), (0, width % 2), (0, 0))
    sums = [np.pad(a, pad).reshape(-(-height // 2), 2, -(-width // 2), 2, -1).sum((1, 3)) for a in (colour, weight)]
    # A coarse pixel is known as soon as one of its four is: its weight saturates.
    coarse_weight = np.minimum(sums[1], 1)
    coarse = _pull(sums[0] / np.maximum(sums[1], 1e-6) * coarse_weight, coarse_weight)
    channels = [
        np.asarray(Image.fromarray(np.ascontiguousarray(coarse[..., c])).resize((width, height), Image.Resampling.BILINEAR)) for c in range(coarse.shape[2])
    ]
    return np.asarray(colour + (1 - weight) * np.stack(channels, axis=-1), np.float32)


def _piece(scene: Image.Image, size: tuple[int, int], rng: np.random.Generator) -> Image.Image:
    """A piece of a scene with the aspect of ``size``, half as large as it can be."""
    scale = 0.5 * min(scene.width / size[0], scene.height / size[1])
    width, height = max(1, int(size[0] * scale)), max(1, int(size[1] * scale))
    left, top = int(rng.integers(0, scene.width - width + 1)), int(rng.integers(0, scene.height - height + 1))
    return scene.crop((left, top, left + width, top + height))


def _filled_alike(scene: Image.Image, crowd: Crowd) -> Image.Image:
    """A scene with a crowd's boxes filled, brought to its size."""
    across, down = scene.width / crowd.image.width, scene.height / crowd.image.height
    return fill(scene, [Box(b.x * across, b.y * down, b.width * across, b.height * down) for b in (*crowd.boxes, *crowd.ignored)])


def _apart(with_people: NDArray[np.float64], without: NDArray[np.float64]) -> Value:
    truth = np.arange(len(with_people) + len(without)) < len(with_people)
    return auroc(np.concatenate([with_people, without]), truth)


def _png(image: Image.Image) -> bytes:
    sink = io.BytesIO()
    image.save(sink, "PNG", compress_level=1)
    return sink.getvalue()


if __name__ == "__main__":
    from cosmop_human_detector.shortcut_command import main

    main()
