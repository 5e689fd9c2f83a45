"""Scenes and crowds for the shortcut test, out of labelled samples."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from cosmop_common.errors import RefusedImageError
from cosmop_common.images import decode_rgb
from numpy.typing import NDArray
from PIL import Image

from cosmop_human_detector.detectors import Detector
from cosmop_human_detector.samples import Box, Sample
from cosmop_human_detector.shortcut import Crowd, Scores

#: Longer sides are reduced to this: enough for every network here, and quick to fill.
_SIDE = 640
_BATCH = 16


@dataclass(frozen=True)
class Probes:
    """What a shortcut test is made of."""

    scenes: list[Image.Image]
    crowds: list[Crowd]

    @property
    def enough(self) -> bool:
        """Whether there is anything to paste, and into."""
        return len(self.scenes) > 1 and bool(self.crowds)


def probes(samples: Sequence[Sample], read: Callable[[Sample], bytes], count: int) -> Probes:
    """At most ``count`` scenes and crowds, in the order of the samples; images that do not decode are passed over."""
    scenes: list[Image.Image] = []
    crowds: list[Crowd] = []
    for sample in samples:
        if len(crowds if sample.people else scenes) >= count:
            continue
        try:
            image = decode_rgb(read(sample))
        except RefusedImageError:
            continue
        scale = min(1.0, _SIDE / max(image.size))
        small = image.resize((max(1, round(image.width * scale)), max(1, round(image.height * scale))), Image.Resampling.LANCZOS) if scale < 1 else image
        if sample.people:
            crowds.append(Crowd(small, scaled(sample.boxes, scale), scaled(sample.ignored, scale)))
        else:
            scenes.append(small)
    return Probes(scenes, crowds)


def scaled(boxes: Sequence[Box], scale: float) -> tuple[Box, ...]:
    """Boxes of a resized image."""
    return tuple(Box(b.x * scale, b.y * scale, b.width * scale, b.height * scale) for b in boxes)


def scores_of(detector: Detector) -> Scores:
    """A detector as the test asks it."""

    def scores(images: Sequence[bytes]) -> NDArray[np.float64]:
        found = [detector.scores(np.stack([detector.prepare(d) for d in images[i : i + _BATCH]])) for i in range(0, len(images), _BATCH)]
        return np.concatenate(found)

    return scores
