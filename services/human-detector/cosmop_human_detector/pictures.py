"""From samples to arrays: decoded, augmented and fitted by threads that work ahead of the network.

Augmentation is a horizontal flip, a crop of at least 80 % of each side and a change of brightness: so moderate that a small person is
seldom cut away. What an image gets depends on the seed, the epoch and the image alone: not on its place in a batch, the number of
processes, or what came before.
"""

from __future__ import annotations

import hashlib
import os
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Self

import numpy as np
from cosmop_common.errors import RefusedImageError
from cosmop_common.images import decode_rgb
from cosmop_vision.preprocess import Preprocessing
from numpy.typing import NDArray
from PIL import Image, ImageEnhance, ImageOps

from cosmop_human_detector.corpus import Corpus
from cosmop_human_detector.samples import Sample

_CROP = 0.8
_BRIGHTNESS = 0.2
#: Batches decoded ahead of the one that is worked on.
_AHEAD = 2

Array = NDArray[np.float32]


class Pictures:
    """Reads samples of a corpus as a network takes them. Close it, or use it as a context."""

    def __init__(self, corpus: Corpus, rule: Preprocessing) -> None:
        """Starts no thread yet."""
        self._corpus, self._rule = corpus, rule
        self._pool = ThreadPoolExecutor(len(os.sched_getaffinity(0)), thread_name_prefix="decode")
        #: Identities of images that do not decode.
        self.refused: set[str] = set()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)

    def batches(self, batches: Iterator[Sequence[Sample]], draw: tuple[int, int] | None = None) -> Iterator[tuple[list[int], Array]]:
        """For each batch the places of those samples in it that decode, and their arrays (n x 3 x size x size; n may be 0).

        Args:
            draw: seed and epoch of the augmentation; None: as they are.
        """
        waiting: deque[tuple[Sequence[Sample], list[Future[Array | None]]]] = deque()
        for batch in batches:
            waiting.append((batch, [self._pool.submit(self._one, sample, draw) for sample in batch]))
            if len(waiting) > _AHEAD:
                yield self._stack(waiting.popleft()[1])
        while waiting:
            yield self._stack(waiting.popleft()[1])

    def _stack(self, futures: list[Future[Array | None]]) -> tuple[list[int], Array]:
        arrays = [future.result() for future in futures]
        whole = [(place, array) for place, array in enumerate(arrays) if array is not None]
        side = self._rule.size
        return [place for place, _ in whole], np.stack([a for _, a in whole]) if whole else np.zeros((0, 3, side, side), np.float32)

    def _one(self, sample: Sample, draw: tuple[int, int] | None) -> Array | None:
        try:
            image = decode_rgb(self._corpus.read(sample), at_least=self._rule.size)
        except RefusedImageError:
            self.refused.add(sample.identity)
            return None
        return self._rule.array(image if draw is None else augmented(image, sample.identity, *draw))


def augmented(image: Image.Image, identity: str, seed: int, epoch: int) -> Image.Image:
    """An image as one epoch sees it."""
    digest = hashlib.sha256(f"{seed}:{epoch}:{identity}".encode()).digest()
    rng = np.random.default_rng(int.from_bytes(digest[:8], "big"))
    share, across, down, brightness = rng.uniform(_CROP, 1), rng.random(), rng.random(), rng.uniform(1 - _BRIGHTNESS, 1 + _BRIGHTNESS)
    width, height = max(1, round(image.width * share)), max(1, round(image.height * share))
    left, top = round((image.width - width) * across), round((image.height - height) * down)
    image = image.crop((left, top, left + width, top + height))
    if rng.random() < 0.5:  # noqa: PLR2004 - a fair coin
        image = ImageOps.mirror(image)
    return ImageEnhance.Brightness(image).enhance(float(brightness))
