"""NanoDet-m with COCO's 80 classes, as an ONNX file: a small detector of whole people, as a peer and an alternative to the head.

Input 416 x 416 BGR, minus the mean, over the deviation, letterboxed and centred. Its outputs come in pairs for each stride: class
scores (cells x 80, sigmoid already applied) and box distributions (cells x 4 x bins: left, up, right, down). The score of an image is
the highest score of class 0, person, over all cells: no box, so no non-maximum suppression.
Source: RangiLyu, NanoDet (Apache-2.0), config nanodet-m-416; Li et al., "Generalized Focal Loss", NeurIPS 2020.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from cosmop_common.images import decode_rgb
from cosmop_vision.errors import ExportError
from cosmop_vision.onnx_session import OnnxSession
from cosmop_vision.settings import VisionSettings
from numpy.typing import NDArray
from PIL import Image

from cosmop_human_detector.errors import ModelFileError

#: The publisher draws boxes from 0.3 on; as a filter of whole photos the most certain cell of all is asked, and its highest score in
#: photos without people often passes that. Chosen on photos, by leaving each source out (docs/decisions.md).
THRESHOLD = 0.4
_CLASSES = 80
_PERSON = 0
_MEAN = np.array([103.53, 116.28, 123.675], np.float32)
_STD = np.array([57.375, 57.12, 58.395], np.float32)
_OVERLAP = 0.5


@dataclass(frozen=True)
class PersonBox:
    """A person that was found; sides as shares of the image's width and height."""

    left: float
    top: float
    right: float
    bottom: float
    score: float

    @property
    def area(self) -> float:
        """Share of the image."""
        return (self.right - self.left) * (self.bottom - self.top)


class NanoDet:
    """The person score of a NanoDet file. Implements ``Detector``."""

    def __init__(self, path: Path, settings: VisionSettings | None = None) -> None:
        """Loads the file. Raises ``ModelFileError`` where it is no ONNX file, or its input or outputs are not NanoDet's."""
        try:
            self._session = OnnxSession(path, settings)
        except ExportError as error:
            raise ModelFileError(f"{path} is no ONNX network that runs here: fetch the file again, or name another one ({error.__cause__})") from error
        shape = self._session.input_shape
        side = shape[-1]
        if len(shape) != 4 or shape[1] != 3 or not isinstance(side, int) or shape[2] != side:  # noqa: PLR2004 - N x 3 x side x side
            raise ModelFileError(f"{path}: expected an input of 1 x 3 x side x side, found {shape}: this backend reads NanoDet files")
        self._side = side
        shapes = self._session.output_shapes
        self._classes = [name for name, sizes in shapes.items() if len(sizes) == 3 and sizes[-1] == _CLASSES]  # noqa: PLR2004 - N x cells x classes
        self._boxes = [name for name in shapes if name not in self._classes]
        if not self._classes:
            raise ModelFileError(f"{path}: no output is N x cells x {_CLASSES} classes, found {shapes}: this backend reads NanoDet files trained on COCO")

    def prepare(self, data: bytes) -> NDArray[np.float32]:
        """See ``Detector``: 3 x side x side, BGR."""
        return self.array(decode_rgb(data, at_least=self._side))

    def array(self, image: Image.Image) -> NDArray[np.float32]:
        """An RGB image, letterboxed: 3 x side x side, BGR."""
        scale = self._side / max(image.size)
        size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
        canvas = Image.new("RGB", (self._side, self._side))
        canvas.paste(image.resize(size, Image.Resampling.BILINEAR), ((self._side - size[0]) // 2, (self._side - size[1]) // 2))
        bgr = np.asarray(canvas, np.float32)[:, :, ::-1]
        return np.ascontiguousarray(((bgr - _MEAN) / _STD).transpose(2, 0, 1))

    def scores(self, batch: NDArray[np.float32]) -> NDArray[np.float64]:
        """See ``Detector``. The published file takes one image at a time."""
        best = [max(float(out[0, :, _PERSON].max()) for out in self._session.run(image[None], self._classes)) for image in batch]
        return np.clip(np.asarray(best, np.float64), 0, 1)

    def people(self, image: Image.Image, least: float) -> list[PersonBox]:
        """The people in an RGB image whose score is at least ``least``, surest first, one box each."""
        outputs = self._session.run(self.array(image)[None], [*self._classes, *self._boxes])
        classes = sorted((out[0] for out in outputs[: len(self._classes)]), key=len)
        boxes = sorted((out[0] for out in outputs[len(self._classes) :]), key=len)
        found = np.concatenate([_decode(c[:, _PERSON], b, self._side, least) for c, b in zip(classes, boxes, strict=True)])
        scale = self._side / max(image.size)
        shift = np.array([(self._side - image.width * scale) / 2, (self._side - image.height * scale) / 2] * 2)
        extent = np.array([image.width * scale, image.height * scale] * 2)
        kept: list[PersonBox] = []
        for row in found[np.argsort(-found[:, 4])]:
            left, top, right, bottom = np.clip((row[:4] - shift) / extent, 0, 1)
            box = PersonBox(float(left), float(top), float(right), float(bottom), float(row[4]))
            if all(_overlap(box, other) < _OVERLAP for other in kept):
                kept.append(box)
        return kept


def _decode(person: NDArray[np.float32], distances: NDArray[np.float32], side: int, least: float) -> NDArray[np.float64]:
    """Rows of left, top, right, bottom in pixels of the input, and score, of the cells of one stride that pass.

    A distance is the mean of a softmax over its bins, in strides (Generalized Focal Loss, equation 5).
    """
    cells = math.isqrt(len(person))
    stride = side / cells
    chosen = np.flatnonzero(person >= least)
    logits = distances[chosen].reshape(len(chosen), 4, distances.shape[1] // 4).astype(np.float64)
    weights = np.exp(logits - logits.max(-1, keepdims=True))
    sides = (weights / weights.sum(-1, keepdims=True)) @ np.arange(logits.shape[-1]) * stride
    rows, columns = np.divmod(chosen, cells)
    x, y = (columns + 0.5) * stride, (rows + 0.5) * stride
    return np.stack([x - sides[:, 0], y - sides[:, 1], x + sides[:, 2], y + sides[:, 3], person[chosen]], 1)


def _overlap(a: PersonBox, b: PersonBox) -> float:
    """Intersection over union."""
    width, height = min(a.right, b.right) - max(a.left, b.left), min(a.bottom, b.bottom) - max(a.top, b.top)
    if width <= 0 or height <= 0:
        return 0.0
    shared = width * height
    return shared / (a.area + b.area - shared)
