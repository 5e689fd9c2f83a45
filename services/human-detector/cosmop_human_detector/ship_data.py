"""What the shipped head is fitted on and measured on: photos, composites, altered photos, as cells of feature maps.

Feature maps and a teacher's boxes are kept in a folder, by the image's sha256: trying another fit then takes minutes less.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath

import numpy as np
from cosmop_common.images import decode_rgb
from cosmop_vision.preprocess import Preprocessing
from cosmop_vision.runtime import Extractor
from numpy.typing import NDArray
from PIL import Image, ImageOps

from cosmop_human_detector.composites import Composite, Subject, compose
from cosmop_human_detector.heads import HeadShape
from cosmop_human_detector.localised import DOUBT, Cells, targets
from cosmop_human_detector.nanodet import NanoDet, PersonBox
from cosmop_human_detector.photos import Photo

FOLDS = 3
#: Composites of each fold of the photos that are fitted on, and of those that are only measured.
_COMPOSITES = 220
#: Every so many of the measured photos are also measured altered.
_ALTERED = 4
_BATCH = 8


@dataclass(frozen=True)
class Measured:
    """Photos, composites and what is known of them."""

    photos: Cells
    ids: tuple[str, ...]
    #: Which photos may be fitted on; the others are only measured.
    half: NDArray[np.bool_]
    #: Fold of each photo; FOLDS where it is only measured.
    folds: NDArray[np.int64]
    boxes: tuple[tuple[PersonBox, ...], ...]
    grey: NDArray[np.bool_]
    composites: Cells
    #: The fold whose photos each composite is made of.
    composite_folds: NDArray[np.int64]
    #: Some of the measured photos without colour, and cut to their middle.
    altered: dict[str, Cells]


def fitted_on(file: str) -> bool:
    """Whether a photo belongs to the half that the head is fitted on."""
    return hashlib.sha256(PurePosixPath(file).name.encode()).digest()[0] % 2 == 0


class Maps:
    """Feature maps of encoded images, each made once."""

    def __init__(self, shape: HeadShape, cache: Path) -> None:
        self._extractor = Extractor.create(shape.network, ("map",))
        self._rule = Preprocessing.of(self._extractor.network, size=shape.size, fit=shape.fit)
        self._name = f"{shape.network}-{shape.size}-{shape.fit}"
        self._cache = cache
        cache.mkdir(parents=True, exist_ok=True)

    def __call__(self, images: Sequence[bytes]) -> NDArray[np.float16]:
        """N x cells x C."""
        paths = [self._cache / f"{hashlib.sha256(data).hexdigest()}-{self._name}.npy" for data in images]
        missing = [i for i, path in enumerate(paths) if not path.is_file()]
        for start in range(0, len(missing), _BATCH):
            batch = missing[start : start + _BATCH]
            maps = self._extractor.features(np.stack([self._rule.array_of_bytes(images[i]) for i in batch]))
            for i, one in zip(batch, maps, strict=True):
                np.save(paths[i], one.reshape(one.shape[0], -1).T.astype(np.float16))
        return np.stack([np.load(path) for path in paths])


def gather(photos: Sequence[Photo], teacher: Path, shape: HeadShape, cache: Path) -> Measured:
    """All that the recipe needs.

    Args:
        teacher: a NanoDet file, which locates the people of the photos that are labelled to show any.
        cache: folder for maps and boxes.
    """
    maps = Maps(shape, cache)
    features = maps([photo.data for photo in photos])
    boxes = _boxes(photos, teacher, cache / "boxes.json")
    half = np.array([fitted_on(photo.file) for photo in photos])
    folds = np.array([int(photo.sha256[:8], 16) % FOLDS if inside else FOLDS for photo, inside in zip(photos, half, strict=True)])
    side = round(features.shape[1] ** 0.5)

    def cells(data: NDArray[np.float16], of: Sequence[Photo | Composite], where: Sequence[Sequence[PersonBox]]) -> Cells:
        known = np.stack([targets(b, side) for b in where])
        return Cells(data, np.array([o.people for o in of]), np.array([o.source if o.people else "" for o in of]), known)

    composites, composite_folds = _composites(photos, boxes, folds)
    some = [i for i in np.flatnonzero(~half).tolist() if i % _ALTERED == 0]
    unlocated = [()] * len(some)
    return Measured(
        cells(features, photos, boxes),
        tuple(photo.sha256 for photo in photos),
        half,
        folds,
        tuple(boxes),
        np.array([_without_colour(photo.data) for photo in photos]),
        cells(maps([c.data for c in composites]), composites, [c.boxes for c in composites]),
        composite_folds,
        {name: cells(maps([_altered(photos[i].data, change) for i in some]), [photos[i] for i in some], unlocated) for name, change in _CHANGES.items()},
    )


def _boxes(photos: Sequence[Photo], teacher: Path, kept: Path) -> list[tuple[PersonBox, ...]]:
    known: dict[str, list[dict[str, float]]] = json.loads(kept.read_text()) if kept.is_file() else {}
    detector = NanoDet(teacher)
    for photo in photos:
        if photo.people and photo.sha256 not in known:
            known[photo.sha256] = [asdict(box) for box in detector.people(decode_rgb(photo.data), DOUBT)]
    kept.write_text(json.dumps(known))
    return [tuple(PersonBox(**box) for box in known.get(photo.sha256, ())) for photo in photos]


def _composites(photos: Sequence[Photo], boxes: Sequence[tuple[PersonBox, ...]], folds: NDArray[np.int64]) -> tuple[list[Composite], NDArray[np.int64]]:
    """Composites of each fold's own photos only, so that a fold that is held out is in none that is fitted on."""
    made: list[Composite] = []
    of: list[int] = []
    for fold in range(FOLDS + 1):
        members: list[int] = np.flatnonzero(folds == fold).tolist()
        picture: Callable[[int], Image.Image] = lru_cache(512)(lambda i, members=members: decode_rgb(photos[members[i]].data))
        subjects = [Subject(photos[i].source, photos[i].people, boxes[i]) for i in members]
        made += compose(subjects, picture, _COMPOSITES, seed=fold)
        of += [fold] * _COMPOSITES
    return made, np.array(of)


def _middle(image: Image.Image) -> Image.Image:
    """The middle, half as wide and as high."""
    return image.crop((image.width // 4, image.height // 4, image.width - image.width // 4, image.height - image.height // 4))


_CHANGES: dict[str, Callable[[Image.Image], Image.Image]] = {"made_grey": ImageOps.grayscale, "cut_to_the_middle": _middle}


def _altered(data: bytes, change: Callable[[Image.Image], Image.Image]) -> bytes:
    sink = io.BytesIO()
    change(decode_rgb(data)).save(sink, "JPEG", quality=90)
    return sink.getvalue()


def _without_colour(data: bytes) -> bool:
    chroma = np.asarray(decode_rgb(data).resize((32, 32)).convert("YCbCr"), np.int16)[:, :, 1:]
    return bool(np.abs(chroma - 128).mean() < 2)  # noqa: PLR2004 - of 127: what JPEG leaves in a grey picture
