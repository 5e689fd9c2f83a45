"""A stored set of images, and its features, part by part through the cache.

A part is some consecutive images of the set's order, computed at one go and cached as one object under how its features are made
and what its images' bytes are. Features depend on nothing else, so that it does not matter which process computed a part,
or in which evaluation.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Literal
from typing import Protocol as Interface

import numpy as np
from cosmop_common.errors import NotFoundError
from cosmop_common.imagesets import ImageSet
from cosmop_common.store import Store

from cosmop_fid_evaluator import feature_cache
from cosmop_fid_evaluator.errors import TooFewImagesError
from cosmop_fid_evaluator.moments import Features
from cosmop_fid_evaluator.networks import Extracted, FeatureNetwork, Turned, extract

#: Images between two looks at whether the job should end.
_STEP = 16
_LISTED = 5

#: Where features came from: computed by this job, found in the cache, or computed meanwhile by another worker.
Origin = Literal["computed", "cached", "others"]


class Progress(Interface):
    """What measuring reports to."""

    def images(self, done: int, origin: Origin) -> None:
        """So many more images are measured."""

    def check(self) -> None:
        """Raises where the work should end now."""


@dataclass(frozen=True)
class Part:
    """Some images of a set: ``names`` from position ``start`` of its order on."""

    start: int
    names: list[str]


class Team(Interface):
    """Workers that share the parts of a large set: see ``shared_parts``."""

    async def gather(
        self, parts: Mapping[str, Part], find: Callable[[str], Awaitable[Extracted | None]], compute: Callable[[Part], Awaitable[Extracted]], progress: Progress
    ) -> dict[str, Extracted]:
        """Features of all parts, by their keys in the cache."""


@dataclass(frozen=True)
class MeasuredSet:
    """Features of a set's images, with the names of those that have some."""

    features: Features
    names: list[str]
    warnings: list[str]


@dataclass(frozen=True)
class Measurer:
    """Turns sets into features with one network."""

    store: Store
    network: FeatureNetwork
    #: How the features are made: the key of the cache.
    extraction: str
    resolution: int
    chunk: int

    def turned(self, quarters: int) -> Measurer:
        """One that is shown each image turned by ``quarters`` of a full turn; 0: the same."""
        if not quarters:
            return self
        return replace(self, network=Turned(self.network, quarters), extraction=f"{self.extraction};turn={quarters}")

    async def measure(self, role: str, images: ImageSet, progress: Progress, team: Team | None = None) -> MeasuredSet:
        """Features of all images that decode; the others are told by name.

        Args:
            role: "reference" or "candidate", for messages.
            team: who may help; the features are the same without.

        Raises:
            TooFewImagesError: fewer than two images decode.
        """
        parts = [Part(start, images.names[start : start + self.chunk]) for start in range(0, len(images.names), self.chunk)]
        if team is None:
            found = [await self.part(images, part, progress) for part in parts]
        else:
            keys = []
            for part in parts:
                progress.check()
                keys.append(await self._key(images, part))
            by_key = await team.gather(dict(zip(keys, parts, strict=True)), self._cached, lambda part: self.part(images, part, progress), progress)
            found = [by_key[key] for key in keys]
        names = [part.names[i] for part, extracted in zip(parts, found, strict=True) for i in extracted.kept]
        refused = {part.names[i]: reason for part, extracted in zip(parts, found, strict=True) for i, reason in extracted.refused.items()}
        if len(names) < 2:  # noqa: PLR2004 - one image has no spread
            raise TooFewImagesError(
                f"the {role} set {images.spec} has {len(names)} usable of {len(images.names)} images, and a distance between distributions needs at least 2"
                + (f": {_told(refused)}" if refused else "")
            )
        warnings = [f"{len(refused)} of {len(images.names)} images of the {role} set are left out: {_told(refused)}"] if refused else []
        return MeasuredSet(np.concatenate([extracted.features for extracted in found if len(extracted.kept)]), names, warnings)

    async def part(self, images: ImageSet, part: Part, progress: Progress) -> Extracted:
        """Features of one part: from the cache, or computed and left there."""
        data = None if images.content_addressed else await images.read(part.names)
        key = self._key_of(part.names if data is None else [hashlib.sha256(d).hexdigest() for d in data])
        if (cached := await self._cached(key)) is not None:
            progress.images(len(part.names), "cached")
            return cached
        steps = []
        with ThreadPoolExecutor(len(os.sched_getaffinity(0)), thread_name_prefix="decode") as threads:
            for start in range(0, len(part.names), _STEP):
                progress.check()
                encoded = data[start : start + _STEP] if data is not None else await images.read(part.names[start : start + _STEP])
                steps.append(await asyncio.to_thread(extract, self.network, encoded, self.resolution, threads))
                progress.images(len(encoded), "computed")
        found = _joined(steps)
        await self.store.put(key, feature_cache.dumps(found))
        return found

    async def _cached(self, key: str) -> Extracted | None:
        try:
            return feature_cache.loads(await self.store.get(key))
        except NotFoundError:
            return None

    async def _key(self, images: ImageSet, part: Part) -> str:
        if images.content_addressed:
            return self._key_of(part.names)
        return self._key_of([hashlib.sha256(d).hexdigest() for d in await images.read(part.names)])

    def _key_of(self, contents: Sequence[str]) -> str:
        return feature_cache.features_key(self.extraction, contents)


def _joined(steps: list[Extracted]) -> Extracted:
    filled = [step.features for step in steps if len(step.kept)]
    return Extracted(
        np.concatenate(filled) if filled else np.empty((0, 0), np.float32),
        np.concatenate([step.kept + i * _STEP for i, step in enumerate(steps)]),
        {position + i * _STEP: reason for i, step in enumerate(steps) for position, reason in step.refused.items()},
    )


def _told(refused: dict[str, str]) -> str:
    told = "; ".join(f"{name}: {reason}" for name, reason in list(refused.items())[:_LISTED])
    return told + (f"; and {len(refused) - _LISTED} more" if len(refused) > _LISTED else "")
