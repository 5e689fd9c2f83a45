"""Training jobs through the real job stream on a drawn dataset version, and the models that come of them, asked over a channel."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from classifier_world import drawing, drawn_dataset, serving
from cosmop_classifier import tuning
from cosmop_classifier.binary import LinearFit
from cosmop_classifier.finetune import _Trainer
from cosmop_classifier.heads import LinearHead
from cosmop_classifier.training import Workbench
from cosmop_classifier.worker import train_classifier
from cosmop_common.bus import Bus
from cosmop_common.errors import StoppingError
from cosmop_common.jobs import submit
from cosmop_common.model_evaluation import ModelEvaluation, evaluation_file
from cosmop_common.models_kv import ActiveModels
from cosmop_common.names import model_key
from cosmop_common.pb.cosmop.v1 import classifier_pb2, runs_pb2
from cosmop_common.records import ModelCard, PredictionsRecord
from cosmop_common.runs import Runs
from cosmop_common.settings import ConnectionSettings
from cosmop_common.store import Store
from work_off import work_off

NETWORK = "efficientnet_lite0"


async def train(bus: Bus, store: Store, settings: ConnectionSettings, dataset: str, kind: str, run: str, seconds: float = 0, **options: str) -> runs_pb2.Run:
    job = runs_pb2.Job(run=run, collection=dataset.partition("/")[0])
    job.train_classifier.CopyFrom(runs_pb2.TrainClassifierJob(dataset=dataset, kind=kind, network=NETWORK, max_seconds=seconds, options=options))
    await submit(bus, Runs(bus), "classifier", job)
    handlers = {"train_classifier": train_classifier(store, ActiveModels(bus))}
    await work_off(bus, "classifier", handlers, settings)
    return await Runs(bus).get(run)


async def test_both_kinds_are_trained_registered_and_served(bus: Bus, store: Store, settings: ConnectionSettings, tmp_path: Path) -> None:
    dataset = await drawn_dataset(store)
    binary = await train(bus, store, settings, dataset, "binary", "train-b", copies="1", epochs="0")
    one_class = await train(bus, store, settings, dataset, "one_class", "train-o")
    assert (binary.state, one_class.state) == (runs_pb2.RUN_STATE_SUCCEEDED,) * 2, (binary.error, one_class.error)
    name, version = binary.result["model"].split("/")
    assert name == "drawn-binary"
    assert await ActiveModels(bus).get(name) == version
    card = await ModelCard.load(store, model_key(name, version, "card.json"))
    assert card.metrics["test"]["auroc"].value > 0.9
    assert card.metrics["test"]["accuracy"].interval is not None
    assert card.metrics["test"]["accuracy"].n == 16
    assert sum(card.confusion["test"].values()) == 16
    predictions = await PredictionsRecord.load(store, model_key(name, version, "predictions.json"))
    assert {p.split for p in predictions.predictions} == {"val", "test"}
    assert len(predictions.predictions) == 28
    evaluation = await ModelEvaluation.load(store, evaluation_file(name, version))
    assert evaluation.groups_parted == 0
    assert evaluation.splits["test"].metrics == card.metrics["test"]
    assert evaluation.splits["test"].reliability is not None
    assert {s.by for s in evaluation.splits["test"].slices} >= {"size", "colour", "light"}
    keys = [key async for key in store.list(f"models/{name}/{version}/")]
    assert not [key for key in keys if not key.endswith((".json", ".onnx", ".safetensors"))]

    one = await ModelCard.load(store, model_key("drawn-one-class", one_class.result["model"].split("/")[1], "card.json"))
    assert one.details["paper"]["components"] == 13
    assert one.details["paper"]["explained_variance"] == pytest.approx(1.0, abs=1e-3)
    assert one_class.result["paper"].startswith("drawn-one-class-paper/")

    async with serving(bus, store, tmp_path) as served:
        answers = [
            await served.classifier.Classify(classifier_pb2.ClassifyRequest(content=drawing(900 + i, i % 2 == 0), collection="drawn", one_class=True))
            for i in range(12)
        ]
        # What the endpoint says is what the job measured: same network, same head, same preprocessing.
        stored = [p for p in predictions.predictions if p.split == "test"][:4]
        again = [await served.classifier.Classify(classifier_pb2.ClassifyRequest(id=p.image, collection="drawn")) for p in stored]
    assert sum(a.positive == (i % 2 == 0) for i, a in enumerate(answers)) >= 10
    assert [a.probability for a in again] == pytest.approx([p.score for p in stored], abs=1e-4)
    assert all(a.one_class.version == one.version for a in answers)


async def test_the_same_job_again_makes_nothing_twice(bus: Bus, store: Store, settings: ConnectionSettings) -> None:
    dataset = await drawn_dataset(store)
    first = await train(bus, store, settings, dataset, "binary", "again-1", copies="0", epochs="0")
    before = {key: await store.get(key) async for key in store.list("models/")}
    second = await train(bus, store, settings, dataset, "binary", "again-2", copies="0", epochs="0")
    assert first.result["model"] == second.result["model"]
    assert {key: await store.get(key) async for key in store.list("models/")} == before
    assert not second.stages, "a registered version needs no stage of work"


async def test_features_survive_the_job_that_made_them(bus: Bus, store: Store, settings: ConnectionSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = await drawn_dataset(store)
    await train(bus, store, settings, dataset, "binary", "kept-1", copies="0", epochs="0")

    def never(*_: object) -> None:
        raise AssertionError("the network ran again on images whose features are kept")

    monkeypatch.setattr("cosmop_classifier.features._look", never)
    other = await train(bus, store, settings, dataset, "binary", "kept-2", copies="0", epochs="0", goal="accuracy")
    assert other.state == runs_pb2.RUN_STATE_SUCCEEDED, other.error


async def test_a_spent_budget_ends_with_fewer_copies_and_says_so(bus: Bus, store: Store, settings: ConnectionSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = await drawn_dataset(store, "slow", {"train": (6, 6), "val": (2, 2), "test": (2, 2)})
    copies: list[int] = []

    def past(bench: Workbench, share: float) -> bool:
        copies.append(0)
        return len(copies) > 1

    monkeypatch.setattr(Workbench, "past", past)
    run = await train(bus, store, settings, dataset, "binary", "slow-1", copies="5", epochs="0")
    assert run.state == runs_pb2.RUN_STATE_SUCCEEDED, run.error
    card = await ModelCard.load(store, model_key(*run.result["model"].split("/"), "card.json"))
    assert card.details["copies"] == 1
    assert any("1 of 5 augmented copies" in w for w in card.details["warnings"])


@pytest.mark.parametrize(
    ("sizes", "kind", "options", "message"),
    [
        ({"train": (0, 6), "val": (1, 1), "test": (2, 2)}, "binary", {}, "the train split has no positive image"),
        ({"train": (6, 0), "val": (1, 1), "test": (2, 2)}, "binary", {}, "the train split has no negative image"),
        ({"train": (0, 6), "val": (1, 1), "test": (2, 2)}, "one_class", {}, "has no 'disc' image"),
        ({"train": (2, 6), "val": (1, 1), "test": (2, 2)}, "one_class", {"paper": "no"}, "needs at least 4"),
        ({"train": (4, 4), "val": (1, 1), "test": (0, 0)}, "binary", {}, "the test split of"),
        ({"train": (4, 4), "val": (1, 1), "test": (1, 1)}, "binary", {"gaol": "f1"}, "option 'gaol' is not known"),
    ],
)
async def test_what_cannot_be_trained_says_why(bus: Bus, store: Store, settings: ConnectionSettings, sizes, kind, options, message) -> None:
    dataset = await drawn_dataset(store, "poor", sizes)
    run = await train(bus, store, settings, dataset, kind, "poor-1", **options)
    assert run.state == runs_pb2.RUN_STATE_FAILED
    assert message in run.error


async def test_an_unknown_dataset_version_fails_at_once(bus: Bus, store: Store, settings: ConnectionSettings) -> None:
    run = await train(bus, store, settings, "nobody/v1", "binary", "unknown-1")
    assert run.state == runs_pb2.RUN_STATE_FAILED
    assert "datasets/nobody/v1" in run.error


async def test_fine_tuning_is_registered_with_its_own_network(
    bus: Bus, store: Store, settings: ConnectionSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def knows_nothing(pooled: np.ndarray, *_: object, **__: object) -> LinearFit:
        return LinearFit(LinearHead(np.zeros(pooled.shape[1], np.float32), 0.0), 1.0, {}, None)

    monkeypatch.setattr("cosmop_classifier.train_binary.fit_linear", knows_nothing)
    dataset = await drawn_dataset(store, "tuned", {"train": (8, 8), "val": (4, 4), "test": (3, 3)})
    run = await train(bus, store, settings, dataset, "binary", "tuned-1", copies="0", epochs="1")
    assert run.state == runs_pb2.RUN_STATE_SUCCEEDED, run.error
    name, version = run.result["model"].split("/")
    card = await ModelCard.load(store, model_key(name, version, "card.json"))
    predictions = await PredictionsRecord.load(store, model_key(name, version, "predictions.json"))
    before, after = card.details["validation_losses"]
    assert after < before
    assert (card.method, card.details["epochs"]) == ("fine-tuned network", 1)
    assert not [key async for key in store.list("runs/tuned-1/")], "the checkpoint is gone when the model stands"
    async with serving(bus, store, tmp_path) as served:
        answers = [await served.classifier.Classify(classifier_pb2.ClassifyRequest(id=p.image, collection="tuned")) for p in predictions.predictions[:3]]
    assert [a.probability for a in answers] == pytest.approx([p.score for p in predictions.predictions[:3]], abs=1e-4)


async def test_a_job_killed_in_fine_tuning_goes_on_behind_its_last_epoch(
    bus: Bus, store: Store, settings: ConnectionSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    epochs: list[int] = []
    epoch, save = _Trainer._epoch, tuning._Checkpoint.save

    def counted(trainer: _Trainer, number: int) -> None:
        epochs.append(number)
        epoch(trainer, number)

    def killed(checkpoint: tuning._Checkpoint, data: bytes) -> None:
        save(checkpoint, data)
        if epochs == [1]:
            raise StoppingError("the pod is taken away")

    monkeypatch.setattr(_Trainer, "_epoch", counted)
    monkeypatch.setattr(tuning._Checkpoint, "save", killed)
    dataset = await drawn_dataset(store, "killed", {"train": (6, 6), "val": (3, 3), "test": (2, 2)})
    run = await train(bus, store, settings, dataset, "binary", "killed-1", copies="0", epochs="2")
    assert run.state == runs_pb2.RUN_STATE_SUCCEEDED, run.error
    assert epochs == [1, 2], "an epoch that is done is not done again"
    card = await ModelCard.load(store, model_key(*run.result["model"].split("/"), "card.json"))
    assert len(card.details["validation_losses"]) == 1 + 2


async def test_twenty_images_without_a_validation_split_work(bus: Bus, store: Store, settings: ConnectionSettings) -> None:
    dataset = await drawn_dataset(store, "small", {"train": (7, 7), "val": (0, 0), "test": (3, 3)})
    run = await train(bus, store, settings, dataset, "binary", "small-1", copies="0", epochs="0")
    assert run.state == runs_pb2.RUN_STATE_SUCCEEDED, run.error
    card = await ModelCard.load(store, model_key(*run.result["model"].split("/"), "card.json"))
    assert "cross-validated" in card.details["calibrated_on"]
    assert any("val split lacks a class" in w for w in card.details["warnings"])


async def test_every_one_class_method_is_trained_measured_and_served(bus: Bus, store: Store, settings: ConnectionSettings, tmp_path: Path) -> None:
    dataset = await drawn_dataset(store, "ways", {"train": (24, 4), "val": (3, 3), "test": (8, 8)})
    for seed in range(300, 312):
        await store.put(f"background/{seed}.jpg", drawing(seed, positive=False))
    streamed = {"paper_images": "12", "svm_images": "20"}
    runs = {
        "logistic": await train(bus, store, settings, dataset, "one_class", "ways-l", method="logistic", background="prefix:background/", paper="no"),
        "patches": await train(bus, store, settings, dataset, "one_class", "ways-p", method="patches", patch_memory="8", **streamed),
    }
    cards = {}
    for method, run in runs.items():
        assert run.state == runs_pb2.RUN_STATE_SUCCEEDED, run.error
        name, version = run.result["model"].split("/")
        cards[method] = await ModelCard.load(store, model_key(name, version, "card.json"))
        evaluation = await ModelEvaluation.load(store, evaluation_file(name, version))
        assert evaluation.splits["test"].pr_curve, method
    assert cards["logistic"].details["background_images"] == 12
    assert cards["logistic"].metrics["test"]["auroc"].value > 0.9
    paper = await ModelCard.load(store, model_key(*runs["patches"].result["paper"].split("/"), "card.json"))
    assert (paper.details["pca"], paper.details["pca_images"], paper.details["svm_images"]) == ("incremental", 24, 20)
    assert "scaler was fitted on 12" in paper.details["warnings"][0]
    async with serving(bus, store, tmp_path) as served:
        await served.serves("ways-one-class", cards["patches"].version)
        # Loading is proof enough: a version that does not say what it said when it was registered fails its smoke test.
        for name, card in (("ways-one-class", cards["logistic"]), ("ways-one-class-paper", paper)):
            assert (await served.hub.get(name, card.version)).card == card


async def test_logistic_without_background_images_says_what_to_do(bus: Bus, store: Store, settings: ConnectionSettings) -> None:
    dataset = await drawn_dataset(store, "alone", {"train": (6, 2), "val": (1, 1), "test": (2, 2)})
    run = await train(bus, store, settings, dataset, "one_class", "alone-1", method="logistic", paper="no")
    assert run.state == runs_pb2.RUN_STATE_FAILED
    assert "name an image set with option background" in run.error
