"""A stored set of images, and its features, chunk by chunk through the cache."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol as Interface

import numpy as np
from cosmop_common.errors import NotFoundError
from cosmop_common.imagesets import ImageSet
from cosmop_common.store import Store
from numpy.typing import NDArray

from cosmop_fid_evaluator import feature_cache
from cosmop_fid_evaluator.errors import TooFewImagesError
from cosmop_fid_evaluator.moments import Features
from cosmop_fid_evaluator.networks import Extracted, FeatureNetwork, extract

log = logging.getLogger(__name__)

#: Images between two looks at whether the job should end.
_STEP = 16
_LISTED = 5


class Progress(Interface):
    """What measuring reports to."""

    def images(self, done: int, *, cached: bool) -> None:
        """So many more images are measured."""

    def check(self) -> None:
        """Raises where the work should end now."""


@dataclass(frozen=True)
class MeasuredSet:
    """Features of a set's images, with the names of those that have some."""

    features: Features
    names: list[str]
    warnings: list[str]


@dataclass
class Measurer:
    """Turns sets into features with one network."""

    store: Store
    network: FeatureNetwork
    #: How the features are made: the key of the cache.
    extraction: str
    resolution: int
    chunk: int

    async def measure(self, role: str, images: ImageSet, progress: Progress) -> MeasuredSet:
        """Features of all images that decode; the others are told by name.

        Args:
            role: "reference" or "candidate", for messages.

        Raises:
            TooFewImagesError: fewer than two images decode.
        """
        features: list[NDArray[np.float32]] = []
        names: list[str] = []
        refused: dict[str, str] = {}
        with ThreadPoolExecutor(len(os.sched_getaffinity(0)), thread_name_prefix="decode") as threads:
            for start in range(0, len(images.names), self.chunk):
                chunk = images.names[start : start + self.chunk]
                found = await self._chunk(images, chunk, progress, threads)
                features += [found.features] if len(found.kept) else []
                names += [chunk[i] for i in found.kept]
                refused |= {chunk[i]: reason for i, reason in found.refused.items()}
        if len(names) < 2:  # noqa: PLR2004 - one image has no spread
            raise TooFewImagesError(
                f"the {role} set {images.spec} has {len(names)} usable of {len(images.names)} images, and a distance between distributions needs at least 2"
                + (f": {_told(refused)}" if refused else "")
            )
        warnings = [f"{len(refused)} of {len(images.names)} images of the {role} set are left out: {_told(refused)}"] if refused else []
        return MeasuredSet(np.concatenate(features), names, warnings)

    async def _chunk(self, images: ImageSet, names: list[str], progress: Progress, threads: ThreadPoolExecutor) -> Extracted:
        data = None if images.content_addressed else await images.read(names)
        contents = names if data is None else [hashlib.sha256(d).hexdigest() for d in data]
        key = feature_cache.features_key(self.extraction, contents)
        try:
            found = feature_cache.loads(await self.store.get(key))
        except NotFoundError:
            pass
        else:
            progress.images(len(names), cached=True)
            return found
        parts = []
        for start in range(0, len(names), _STEP):
            progress.check()
            encoded = data[start : start + _STEP] if data is not None else await images.read(names[start : start + _STEP])
            parts.append(await asyncio.to_thread(extract, self.network, encoded, self.resolution, threads))
            progress.images(len(encoded), cached=False)
        found = _joined(parts)
        await self.store.put(key, feature_cache.dumps(found))
        return found


def _joined(parts: list[Extracted]) -> Extracted:
    filled = [part.features for part in parts if len(part.kept)]
    return Extracted(
        np.concatenate(filled) if filled else np.empty((0, 0), np.float32),
        np.concatenate([part.kept + i * _STEP for i, part in enumerate(parts)]),
        {position + i * _STEP: reason for i, part in enumerate(parts) for position, reason in part.refused.items()},
    )


def _told(refused: dict[str, str]) -> str:
    told = "; ".join(f"{name}: {reason}" for name, reason in list(refused.items())[:_LISTED])
    return told + (f"; and {len(refused) - _LISTED} more" if len(refused) > _LISTED else "")
