"""Labelled images as the window features that a head is fitted on."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from cosmop_common.errors import RefusedImageError
from cosmop_vision.preprocess import Preprocessing
from cosmop_vision.runtime import Extractor
from numpy.typing import NDArray

from cosmop_human_detector.errors import TrainingDataError
from cosmop_human_detector.heads import HeadShape, windows
from cosmop_human_detector.photos import Photo

_BATCH = 16


@dataclass(frozen=True)
class Examples:
    """Images as a head sees them."""

    #: N x windows x C.
    windows: NDArray[np.float32]
    people: NDArray[np.bool_]
    #: Source of each.
    sources: NDArray[np.str_]
    #: sha256 of each.
    ids: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.people)

    def take(self, chosen: NDArray[np.bool_]) -> Examples:
        """Some of them."""
        ids = tuple(self.ids[i] for i in np.flatnonzero(chosen))
        return Examples(self.windows[chosen], self.people[chosen], self.sources[chosen], ids)


def extract(photos: Iterable[Photo], extractor: Extractor, shape: HeadShape, on_progress: Callable[[int], None] = lambda _done: None) -> Examples:
    """Features of images; those that do not decode are left out. No more images are held at a time than a batch.

    Args:
        on_progress: is told after each batch how many images it had; may raise to stop.

    Raises:
        TrainingDataError: no image of one of the kinds decodes.
    """
    rule = Preprocessing.of(extractor.network, size=shape.size, fit=shape.fit)

    def prepare(photo: Photo) -> NDArray[np.float32] | None:
        try:
            return rule.array_of_bytes(photo.data)
        except RefusedImageError:
            return None

    people: list[bool] = []
    sources: list[str] = []
    ids: list[str] = []
    found: list[NDArray[np.float32]] = []
    with ThreadPoolExecutor(len(os.sched_getaffinity(0)), thread_name_prefix="decode") as pool:
        for batch in _batches(photos):
            arrays = list(pool.map(prepare, batch))
            whole = [(photo, array) for photo, array in zip(batch, arrays, strict=True) if array is not None]
            if whole:
                people += [photo.people for photo, _ in whole]
                sources += [photo.source for photo, _ in whole]
                ids += [photo.sha256 for photo, _ in whole]
                found.append(windows(extractor.features(np.stack([array for _, array in whole])), shape))
            on_progress(len(batch))
    truth = np.array(people, bool)
    if not (truth.any() and (~truth).any()):
        raise TrainingDataError("images of only one kind decode: a head is fitted on images of both kinds")
    return Examples(np.concatenate(found), truth, np.array(sources), tuple(ids))


def _batches(photos: Iterable[Photo]) -> Iterator[Sequence[Photo]]:
    waiting = iter(photos)
    while batch := list(itertools.islice(waiting, _BATCH)):
        yield batch
