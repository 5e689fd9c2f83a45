"""Whole numbers behind the accuracy gate: used where they say the same, refused where they do not, measured once."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import pytest
from classifier_world import PREPROCESSING, drawing, tiny_model
from cosmop_classifier.engine import Engines
from cosmop_classifier.hub import Hub
from cosmop_classifier.int8 import RECORD, Int8, Int8Record
from cosmop_classifier.served import ServedModel
from cosmop_common.bus import Bus
from cosmop_common.models_kv import ActiveModels
from cosmop_common.names import model_key
from cosmop_common.records import Prediction
from cosmop_common.store import Store

PIXELS = np.stack([PREPROCESSING.array_of_bytes(drawing(900 + i, i % 2 == 0)) for i in range(12)])


@pytest.fixture
async def engines(store: Store, tmp_path: Path):
    """Of a serving process; one version is registered, with images to calibrate and to judge by."""
    ids = [await store.put_image(drawing(i, i % 2 == 0), "image/jpeg") for i in range(70)]
    predictions = [Prediction(image=image, split="val", label="disc", positive=True, score=0.5) for image in ids[24:]]
    await tiny_model(store, tmp_path, images=ids[:24], predictions=predictions)
    engines = Engines(tmp_path, decode_threads=1)
    yield engines
    engines.close()


def scores(model: ServedModel) -> np.ndarray:
    return model.scores(model.engine.run(PIXELS, with_map=False))


async def record_of(store: Store) -> Int8Record:
    return await Int8Record.load(store, model_key("tiny-binary", "v1", RECORD))


async def test_what_says_the_same_takes_the_place(bus: Bus, store: Store, engines: Engines, monkeypatch: pytest.MonkeyPatch) -> None:
    # A CPU without VNNI saturates where two products are large, and says it a little otherwise: the bounds leave room for it.
    hub = Hub(store, ActiveModels(bus), engines, int8=Int8(store, engines, agreement=0.7, loss=0.3))
    plain = await hub.activate("tiny-binary", "v1")
    async with asyncio.timeout(240):
        while await hub.get("tiny-binary") is plain:  # noqa: ASYNC110 - it is made beside
            await asyncio.sleep(0.05)
    fast = await hub.get("tiny-binary")
    assert fast.card is plain.card
    assert fast.engine is not plain.engine
    assert scores(fast) == pytest.approx(scores(plain), abs=0.2)
    assert (scores(fast) != scores(plain)).any(), "the same network, and not in whole numbers"
    record = await record_of(store)
    assert (record.accepted, record.images) == (True, 46)
    assert record.agreement >= 0.7

    # Another process finds it made.
    async def never(*_arguments: object) -> bytes:
        raise AssertionError("quantised a second time")

    monkeypatch.setattr("cosmop_classifier.int8.quantised", never)
    again = await Int8(store, engines, agreement=0.7, loss=0.3).faster(plain)
    assert again is not None
    assert again.engine is fast.engine


async def test_what_loses_accuracy_is_refused_and_that_is_remembered(bus: Bus, store: Store, engines: Engines) -> None:
    plain = await Hub(store, ActiveModels(bus), engines).activate("tiny-binary", "v1")
    assert await Int8(store, engines, agreement=0.0, loss=-1.0).faster(plain) is None
    record = await record_of(store)
    assert not record.accepted
    assert "at most -1.0 less" in record.reason
    assert await Int8(store, engines, agreement=0.0, loss=1.0).faster(plain) is None, "measured once"


async def test_a_machine_that_rounds_otherwise_does_not_use_it(bus: Bus, store: Store, engines: Engines) -> None:
    plain = await Hub(store, ActiveModels(bus), engines).activate("tiny-binary", "v1")
    int8 = Int8(store, engines, agreement=0.0, loss=1.0)
    assert await int8.faster(plain) is not None
    record = await record_of(store)
    await record.model_copy(update={"smoke": [score + 0.2 for score in record.smoke]}).save(store, model_key("tiny-binary", "v1", RECORD))
    assert await int8.faster(plain) is None


async def test_too_few_images_prove_nothing(bus: Bus, store: Store, tmp_path: Path) -> None:
    await tiny_model(store, tmp_path)
    engines = Engines(tmp_path, decode_threads=1)
    plain = await Hub(store, ActiveModels(bus), engines).activate("tiny-binary", "v1")
    assert await Int8(store, engines, agreement=0.0, loss=1.0).faster(plain) is None
    assert "too few" in (await record_of(store)).reason
    engines.close()
