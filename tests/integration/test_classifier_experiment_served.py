"""The experiment's word of the served model is the endpoint's own, image by image."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Self

import numpy as np
import pytest
from classifier_world import CHANNELS, PREPROCESSING, drawing, serving, tiny_bank, tiny_model, tiny_network
from cosmop_classifier.experiment_served import served_words
from cosmop_classifier.features import decode, given
from cosmop_common.bus import Bus
from cosmop_common.models_kv import ActiveModels
from cosmop_common.pb.cosmop.v1 import classifier_pb2
from cosmop_common.records import Prediction
from cosmop_common.store import Store
from cosmop_vision.onnx_session import OnnxSession

COUNT = 20


class Stage:
    """A stage of a run that nobody watches."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None: ...

    def set(self, **_: object) -> None: ...

    def advance(self, count: int = 1) -> None: ...


@pytest.mark.parametrize("own", [True, False], ids=["the experiment's network", "a network of its own"])
async def test_the_served_model_says_in_the_experiment_what_it_says_to_a_client(bus: Bus, store: Store, tmp_path: Path, own: bool) -> None:
    said = [
        Prediction(image="a", split="test", label="stripe", positive=False, score=0.0),
        Prediction(image="b", split="test", label="disc", positive=True, score=1.0),
    ]
    await tiny_model(store, tmp_path, "drawn-binary", predictions=said)
    await tiny_model(store, tmp_path, "drawn-one-class", head=tiny_bank())
    for name in ("drawn-binary", "drawn-one-class"):
        await ActiveModels(bus).activate(name, "v1")
    images = [drawing(number, positive=number % 2 == 0) for number in range(COUNT)]
    async with serving(bus, store, tmp_path / "serving") as served:
        await served.serves("drawn-one-class", "v1")
        answers = [await served.classifier.Classify(classifier_pb2.ClassifyRequest(model="drawn-binary", content=image)) for image in images]

    network = tmp_path / "network.onnx"
    network.write_bytes(tiny_network() if own else tiny_network(seed=9))

    async def network_file() -> Path:
        return network

    bench = SimpleNamespace(
        run=SimpleNamespace(bus=bus, stage=lambda *_, **__: Stage(), check=lambda: None), store=store, network_file=network_file, preprocessing=PREPROCESSING,
        plan=SimpleNamespace(collection="drawn", dataset="tiny/v1"), settings=SimpleNamespace(cache=tmp_path / "cache"),
    )  # fmt: skip
    pooled = OnnxSession(network).run(decode(PREPROCESSING, images), ["pooled"])[0]
    words = await served_words(bench, ["binary", "one_class", "one_class_paper"], [given(image) for image in images], pooled)
    assert set(words) == {"binary", "one_class"}
    word = words["binary"]
    assert word.model == "drawn-binary/v1"
    positive = sum(a.label == "disc" for a in answers)
    assert 0 < positive < COUNT
    assert word.called.value == positive / COUNT
    assert word.uncertain == sum(a.uncertain for a in answers) / COUNT
    assert word.between == (1.0, 1.0)
    assert pooled.shape == (COUNT, CHANNELS)
    assert np.isfinite(words["one_class"].called.interval).all()
    assert await served_words(bench, ["one_class_paper"], [given(images[0])], pooled[:1]) == {}
