"""NanoDet-m with COCO's 80 classes, as an ONNX file: a small detector of whole people, as a peer and an alternative to the head.

Input 416 x 416 BGR, minus the mean, over the deviation, letterboxed and centred. Its outputs come in pairs for each stride: class
scores (cells x 80, sigmoid already applied) and box distributions, which a filter does not need. The score of an image is the highest
score of class 0, person, over all cells: no box, so no non-maximum suppression.
Source: RangiLyu, NanoDet (Apache-2.0), config nanodet-m-416; Li et al., "Generalized Focal Loss", NeurIPS 2020.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from cosmop_common.images import decode_rgb
from cosmop_vision.onnx_session import OnnxSession
from cosmop_vision.settings import VisionSettings
from numpy.typing import NDArray
from PIL import Image

from cosmop_human_detector.errors import ModelFileError

THRESHOLD = 0.3
_CLASSES = 80
_PERSON = 0
_MEAN = np.array([103.53, 116.28, 123.675], np.float32)
_STD = np.array([57.375, 57.12, 58.395], np.float32)


class NanoDet:
    """The person score of a NanoDet file. Implements ``Detector``."""

    def __init__(self, path: Path, settings: VisionSettings | None = None) -> None:
        """Loads the file. Raises ``ModelFileError`` where its outputs are not NanoDet's."""
        self._session = OnnxSession(path, settings)
        side = self._session.input_shape[-1]
        if not isinstance(side, int):
            raise ModelFileError(f"{path}: expected an input of fixed size, found {self._session.input_shape}: this backend reads NanoDet files")
        self._side = side
        self._outputs = [name for name, shape in self._session.output_shapes.items() if shape[-1] == _CLASSES]
        if not self._outputs:
            raise ModelFileError(f"{path}: no output has {_CLASSES} classes: this backend reads NanoDet files trained on COCO")

    def prepare(self, data: bytes) -> NDArray[np.float32]:
        """See ``Detector``: 3 x side x side, BGR."""
        image = decode_rgb(data, at_least=self._side)
        scale = self._side / max(image.size)
        size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
        canvas = Image.new("RGB", (self._side, self._side))
        canvas.paste(image.resize(size, Image.Resampling.BILINEAR), ((self._side - size[0]) // 2, (self._side - size[1]) // 2))
        bgr = np.asarray(canvas, np.float32)[:, :, ::-1]
        return np.ascontiguousarray(((bgr - _MEAN) / _STD).transpose(2, 0, 1))

    def scores(self, batch: NDArray[np.float32]) -> NDArray[np.float64]:
        """See ``Detector``. The published file takes one image at a time."""
        best = [max(float(out[0, :, _PERSON].max()) for out in self._session.run(image[None], self._outputs)) for image in batch]
        return np.clip(np.asarray(best, np.float64), 0, 1)
