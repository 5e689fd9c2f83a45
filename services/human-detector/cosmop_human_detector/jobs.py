"""The job ``train_human_detector``: a folder of labelled images in, an active model version of the collection out. Needs torch."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from cosmop_common.models_kv import ActiveModels
from cosmop_common.run_handle import RunHandle
from cosmop_common.store import Store
from cosmop_vision.runtime import Extractor
from cosmop_vision.settings import VisionSettings

from cosmop_human_detector.cards import head_card
from cosmop_human_detector.detectors import HeadDetector, smoke_test
from cosmop_human_detector.errors import TrainingDataError
from cosmop_human_detector.features import extract
from cosmop_human_detector.heads import HeadShape
from cosmop_human_detector.photos import Photo, read_folder
from cosmop_human_detector.registry import HEAD_FILE, find_card, name_for, register
from cosmop_human_detector.settings import Settings
from cosmop_human_detector.training import Trained, train, version_of


def train_human_detector(store: Store, models: ActiveModels, settings: Settings) -> Callable[[RunHandle], Awaitable[None]]:
    """The handler of the job. The same images, labels and settings name the same version: one that exists is only activated."""

    async def handle(run: RunHandle) -> None:
        spec = run.job.train_human_detector
        shape = HeadShape(network=spec.network or settings.human_detector_network, size=settings.human_detector_size)
        miss_rate = spec.miss_rate or settings.human_detector_miss_rate
        photos = await asyncio.to_thread(read_all, list(spec.data))
        name = name_for(run.job.collection)
        version = version_of(tuple(p.sha256 for p in photos), np.array([p.people for p in photos]), shape, miss_rate)
        if await find_card(store, f"{name}/{version}") is None:
            fitted = await asyncio.to_thread(_fit, run, photos, shape, miss_rate)
            dataset = f"{', '.join(spec.data)}: {len(fitted.ids)} images"
            card = head_card(
                fitted.trained,
                fitted.head,
                name=name,
                version=version,
                collection=run.job.collection,
                dataset=dataset,
                ids=fitted.ids,
                miss_rate=miss_rate,
            )
            await register(store, card, {HEAD_FILE: fitted.head})
        await models.activate(name, version)
        run.result(model=f"{name}/{version}")

    return handle


def read_all(data: list[str]) -> list[Photo]:
    """The labelled images of all folders named, each image once. Raises ``TrainingDataError``."""
    if not data:
        raise TrainingDataError("the job names no data: give it a folder with labels.csv")
    photos = {photo.sha256: photo for folder in data for photo in read_folder(Path(folder))}
    return list(photos.values())


@dataclass(frozen=True)
class _Fitted:
    trained: Trained
    #: The head's file.
    head: bytes
    #: sha256 of each image that it was fitted on.
    ids: tuple[str, ...]


def _fit(run: RunHandle, photos: list[Photo], shape: HeadShape, miss_rate: float) -> _Fitted:
    """Features, head and threshold, in a thread of its own; stops between batches and fits when the run is told to."""
    extractor = Extractor.create(shape.network, ("map",), settings=VisionSettings())
    with run.stage("features", total=len(photos), unit="images") as features:

        def advance(done: int) -> None:
            run.check()
            features.advance(done)

        examples = extract(photos, extractor, shape, advance)
    with run.stage("fit", unit="fits") as fits:

        def fitted() -> None:
            run.check()
            fits.advance()

        trained = train(examples, shape, miss_rate, fitted)
    smoke_test(HeadDetector(trained.head, extractor))
    return _Fitted(trained, trained.head.to_bytes(), examples.ids)
