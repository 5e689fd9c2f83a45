"""A served version in whole numbers, about twice as fast, kept only where it says the same: the accuracy gate.

What came of a version is written beside it, once for all processes: ``int8.json`` (the measurement and its verdict) and, where it was
accepted, ``int8-<sha>.onnx``. The gate compares both networks on validation and test images of the version's own dataset.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging

import numpy as np
from cosmop_common.errors import NotFoundError, RefusedImageError
from cosmop_common.names import model_key, sha256_hex
from cosmop_common.records import PredictionsRecord, Record
from cosmop_common.store import Store
from numpy.typing import NDArray
from pydantic import Field

from cosmop_classifier.engine import Engine, Engines
from cosmop_classifier.heads import Features
from cosmop_classifier.quantise import Array, quantised
from cosmop_classifier.registry import PREDICTIONS, TRAINING, TrainingImages, load
from cosmop_classifier.served import ServedModel, smoke_features

log = logging.getLogger(__name__)

RECORD = "int8.json"
_CALIBRATION, _JUDGED, _FEWEST = 48, 256, 40
#: A machine whose kernels round otherwise may be this far from the one that measured.
_SMOKE_TOLERANCE = 0.03
_BATCH = 8


class Int8Record(Record):
    """``models/<name>/<version>/int8.json``: what became of a version in whole numbers."""

    accepted: bool
    #: Why, in words.
    reason: str
    #: Images that both networks were asked about; the share on which their verdicts agree; accuracies; largest difference of scores.
    images: int
    agreement: float = 0.0
    accuracy: float = 0.0
    accuracy_int8: float = 0.0
    largest_difference: float = 0.0
    network: str = ""
    #: Scores of the smoke test's input.
    smoke: list[float] = Field(default_factory=list)


class Int8:
    """Turns served versions into faster ones."""

    def __init__(self, store: Store, engines: Engines, *, agreement: float, loss: float) -> None:
        """Prepares.

        Args:
            agreement: share of images on which both must say the same, at least.
            loss: accuracy that may be lost, at most.
        """
        self._store, self._engines, self._agreement, self._loss = store, engines, agreement, loss

    async def faster(self, model: ServedModel) -> ServedModel | None:
        """The same version in whole numbers; None where that was measured to be worse, or is not reproduced by this machine.

        Raises:
            ExportError: it could not be made.
            UnreachableError: the store is away.
        """
        key = model_key(model.card.name, model.card.version, RECORD)
        try:
            record = await Int8Record.load(self._store, key)
        except NotFoundError:
            record = await self._make(model, key)
        if not record.accepted:
            log.info("%s/%s stays as it is: %s", model.card.name, model.card.version, record.reason)
            return None
        network = await self._store.get(model_key(model.card.name, model.card.version, record.network))
        engine = await asyncio.to_thread(self._engines.get, network, model.engine.preprocessing)
        fast = dataclasses.replace(model, engine=engine)
        found = await asyncio.to_thread(lambda: fast.scores(smoke_features(engine, model.head)))
        if sha256_hex(network)[:12] not in record.network or not np.allclose(found, record.smoke, rtol=_SMOKE_TOLERANCE, atol=_SMOKE_TOLERANCE):
            log.warning("%s/%s in whole numbers says something else on this machine: it is not used here", model.card.name, model.card.version)
            return None
        return fast

    async def _make(self, model: ServedModel, key: str) -> Int8Record:
        card = model.card
        files = await load(self._store, card.name, card.version)
        training = await TrainingImages.load(self._store, model_key(card.name, card.version, TRAINING))
        predictions = await PredictionsRecord.load(self._store, model_key(card.name, card.version, PREDICTIONS))
        truth = {p.image: p.label == card.positive for p in predictions.predictions}
        _, calibration = await self._pixels(model, sorted(set(training.images))[:_CALIBRATION])
        judged, pixels = await self._pixels(model, sorted(truth)[:_JUDGED])
        if len(calibration) < _FEWEST // 2 or len(judged) < _FEWEST:
            record = Int8Record(accepted=False, reason=f"{len(calibration)} images to calibrate and {len(judged)} to judge by are too few", images=len(judged))
        else:
            network = await quantised(files.network, calibration)
            engine = await asyncio.to_thread(self._engines.get, network, model.engine.preprocessing)
            record = await asyncio.to_thread(self._judge, model, engine, pixels, np.array([truth[image] for image in judged]))
            name = f"int8-{sha256_hex(network)[:12]}.onnx"
            record = record.model_copy(update={"network": name if record.accepted else ""})
            if record.accepted:
                await self._store.put(model_key(card.name, card.version, name), network)
        # Whoever was first is right: another process may have measured meanwhile.
        return record if await record.save_new(self._store, key) else await Int8Record.load(self._store, key)

    def _judge(self, model: ServedModel, engine: Engine, pixels: Array, truth: NDArray[np.bool_]) -> Int8Record:
        fast = dataclasses.replace(model, engine=engine)
        before, after = (_scores(which, pixels) for which in (model, fast))
        said, says = before >= model.card.threshold, after >= model.card.threshold
        record = Int8Record(
            accepted=False,
            reason="",
            images=len(truth),
            agreement=float((said == says).mean()),
            accuracy=float((said == truth).mean()),
            accuracy_int8=float((says == truth).mean()),
            largest_difference=float(np.abs(before - after).max()),
            smoke=fast.scores(smoke_features(engine, model.head)).tolist(),
        )
        good = record.agreement >= self._agreement and record.accuracy_int8 >= record.accuracy - self._loss
        reason = (
            f"verdicts agree on {record.agreement:.3f} of {record.images} images (at least {self._agreement} is asked for), "
            f"accuracy {record.accuracy:.3f} becomes {record.accuracy_int8:.3f} (at most {self._loss} less)"
        )
        return record.model_copy(update={"accepted": good, "reason": reason})

    async def _pixels(self, model: ServedModel, images: list[str]) -> tuple[list[str], Array]:
        """Those of the images that the store holds and that decode, preprocessed."""
        found: list[tuple[str, Array]] = []
        for image in images:
            try:
                data = await self._store.get_image(image)
                found.append((image, await asyncio.to_thread(model.engine.preprocessing.array_of_bytes, data)))
            except (NotFoundError, RefusedImageError):
                continue
        size = model.engine.preprocessing.size
        return [image for image, _ in found], np.stack([p for _, p in found]) if found else np.zeros((0, 3, size, size), np.float32)


def _scores(model: ServedModel, pixels: Array) -> NDArray[np.float64]:
    """Scores of preprocessed images, a few at a time."""
    parts: list[NDArray[np.float64]] = []
    for start in range(0, len(pixels), _BATCH):
        features: Features = model.engine.run(pixels[start : start + _BATCH], with_map=model.head.needs_map)
        parts.append(model.scores(features))
    return np.concatenate(parts)
