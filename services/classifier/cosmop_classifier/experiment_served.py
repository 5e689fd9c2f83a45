"""What the model that is served says of an experiment's synthetic images, over its own path: its network, head, calibration, threshold."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import numpy as np
from cosmop_common.experiment_records import ServedWord
from cosmop_common.models_kv import ActiveModels
from cosmop_common.names import model_key, sha256_hex
from cosmop_common.records import ModelCard, PredictionsRecord, Value
from numpy.typing import NDArray

from cosmop_classifier import registry
from cosmop_classifier.engine import Engines
from cosmop_classifier.experiment_cells import between
from cosmop_classifier.experiment_plan import BINARY, ONE_CLASS
from cosmop_classifier.features import CHUNK, Item, decode, read_all
from cosmop_classifier.heads import Array, Features
from cosmop_classifier.measures import wilson
from cosmop_classifier.served import ServedModel, serve
from cosmop_classifier.training import Workbench


async def served_words(bench: Workbench, classifiers: Sequence[str], items: Sequence[Item], pooled: Array) -> dict[str, ServedWord]:
    """The word of each classifier's active model on the synthetic images; those without an active model are left out.

    Args:
        bench: the experiment's.
        classifiers: of the experiment.
        items: the synthetic images.
        pooled: (n, c), their features by the bench's frozen network, used again where the served model stands on the same.

    Raises:
        SmokeTestError, ChecksumError: an active model is damaged.
    """
    words: dict[str, ServedWord] = {}
    engines = await asyncio.to_thread(Engines, bench.settings.cache)
    try:
        for classifier in (c for c in (BINARY, ONE_CLASS) if c in classifiers):
            name = registry.model_name(bench.plan.collection, classifier)
            version = await ActiveModels(bench.run.bus).get(name)
            if version:
                words[classifier] = await _word(bench, engines, name, version, items, pooled)
    finally:
        await asyncio.to_thread(engines.close)
    return words


async def _word(bench: Workbench, engines: Engines, name: str, version: str, items: Sequence[Item], pooled: Array) -> ServedWord:
    files = await registry.load(bench.store, name, version)
    model = await asyncio.to_thread(serve, files, engines)
    own = await bench.network_file()
    same = sha256_hex(files.network) == sha256_hex(own.read_bytes()) and model.engine.preprocessing == bench.preprocessing
    if same and not model.head.needs_map:
        scores = model.scores(Features(pooled))
    else:
        scores = await _look(bench, model, items)
    called, (low, high) = int((scores >= files.card.threshold).sum()), model.band
    return ServedWord(
        model=f"{name}/{version}",
        recipe=recipe(files.card),
        called=Value(value=called / len(scores), interval=wilson(called, len(scores)), n=len(scores), method="wilson"),
        uncertain=float(((scores > low) & (scores < high)).mean()),
        between=await _between(bench, files.card, scores),
    )


async def _look(bench: Workbench, model: ServedModel, items: Sequence[Item]) -> NDArray[np.float64]:
    """The images through the served model's own network."""
    parts = []
    with bench.run.stage(f"{model.card.name} on synthetic", total=len(items), unit="images") as progress:
        progress.set(done=0)
        for start in range(0, len(items), CHUNK):
            data = await read_all(items[start : start + CHUNK])
            pixels = await asyncio.to_thread(decode, model.engine.preprocessing, data)
            parts.append(model.scores(await asyncio.to_thread(model.engine.run, pixels, with_map=model.head.needs_map)))
            progress.advance(len(data))
            bench.run.check()
    return np.concatenate(parts)


async def _between(bench: Workbench, card: ModelCard, scores: NDArray[np.float64]) -> tuple[float, float] | None:
    """Among the test images that the model was measured on, if those are the experiment's."""
    if card.dataset != bench.plan.dataset:
        return None
    record = await PredictionsRecord.load(bench.store, model_key(card.name, card.version, registry.PREDICTIONS))
    test = [p for p in record.predictions if p.split == "test"]
    return between(scores, np.array([p.score for p in test]), np.array([p.label == card.positive for p in test], dtype=bool))


def recipe(card: ModelCard) -> str:
    """What a model learned from, in words: ``frozen network, linear head; real images, 3 augmented copies of each``."""
    parts = ["real images" if card.details.get("plan", {}).get("options", {}).get("real", "yes") == "yes" else "real negatives"]
    if copies := int(card.details.get("copies", 0)):
        parts.append(f"{copies} augmented {'copy' if copies == 1 else 'copies'} of each")
    if synthetic := int(card.details.get("synthetic", 0)):
        parts.append(f"{synthetic} synthetic images")
    return f"{card.method}; {', '.join(parts)}" if card.method else ", ".join(parts)
