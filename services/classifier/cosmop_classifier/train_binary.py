"""Training the binary classifier of a collection: its positive class against all others."""

from __future__ import annotations

import asyncio
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from cosmop_common.records import ModelCard
from cosmop_vision.runtime import wants_cuda
from numpy.typing import NDArray

from cosmop_classifier import registry, tuning
from cosmop_classifier.binary import check_classes, fit_linear
from cosmop_classifier.calibration import band, expected_calibration_error, fit_temperature, negative_log_likelihood, probabilities
from cosmop_classifier.evaluation import evaluate
from cosmop_classifier.features import Item
from cosmop_classifier.heads import Array, Features, LinearHead
from cosmop_classifier.plan import effort
from cosmop_classifier.thresholds import Goal, choose
from cosmop_classifier.training import Fitted, Workbench
from cosmop_classifier.traits import Traits

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class TrainingSet:
    """What the model is fitted on: real images first, then synthetic ones."""

    items: list[Item]
    truth: Bools
    groups: list[str]
    #: Pooled features of the images as they are, then of each copy.
    views: list[Array]
    synthetic: int


@dataclass(frozen=True)
class Trained:
    """A network with its head, and what the two say of images that they were not fitted on."""

    network: Path
    head: LinearHead
    method: str
    val: Floats
    test: Floats
    #: Logits of the training images by heads that did not see them, where there are any.
    out_of_fold: Floats | None
    details: dict[str, Any]


@dataclass(frozen=True)
class Calibration:
    """Temperature, threshold and band, chosen on images that the head did not see."""

    temperature: float
    threshold: float
    band: tuple[float, float]
    details: dict[str, Any]


async def train_binary(bench: Workbench) -> ModelCard:
    """Trains and registers; a version that exists is returned as it is.

    Raises:
        ClassMissingError: the train split lacks a class.
        GoalError: no threshold meets the job's goal.
    """
    name = registry.model_name(bench.plan.collection, registry.BINARY)
    copies, epochs = effort(bench.plan, len(bench.rows["train"]), sum(map(len, bench.rows.values())), cuda=wants_cuda(bench.settings))
    version = bench.version(copies=copies, epochs=epochs)
    if (card := await registry.find_card(bench.store, name, version)) is not None:
        return card
    if bench.plan.options.real == "yes" and not bench.plan.synthetic:
        check_classes(bench.truth("train"), "train")
    data = await _training_set(bench, copies)
    trained = await _fit_head(bench, data, copies)
    with tempfile.TemporaryDirectory() as folder:
        if epochs:
            trained = await _tune(bench, data, trained, epochs, Path(folder))
        with bench.run.stage("measure"):
            fitted = await asyncio.to_thread(_measure, bench, data, trained, await bench.traits())
        with bench.run.stage("register"):
            return await bench.register(name, version, registry.BINARY, fitted)


async def _training_set(bench: Workbench, copies: int) -> TrainingSet:
    items, truth, groups = bench.items("train"), bench.truth("train"), [r.group for r in bench.rows["train"]]
    plain = await bench.pooled(items, "features of train")
    if bench.plan.options.real == "no":
        kept = np.nonzero(~truth)[0]
        items, truth, groups, plain = [items[i] for i in kept], truth[kept], [groups[i] for i in kept], plain[kept]
    synthetic = await bench.synthetic()
    if synthetic:
        plain = np.concatenate([plain, await bench.pooled(synthetic, "features of synthetic")])
        truth = np.concatenate([truth, np.ones(len(synthetic), dtype=bool)])
        items, groups = [*items, *synthetic], [*groups, *(i.image for i in synthetic)]
    check_classes(truth, "train")
    more = await bench.pooled_copies(items, copies, "features of augmented copies") if copies else []
    return TrainingSet(items, truth, groups, [plain, *more], len(synthetic))


async def _fit_head(bench: Workbench, data: TrainingSet, copies: int) -> Trained:
    val, test = [await bench.pooled(bench.items(split), f"features of {split}") for split in ("val", "test")]
    with bench.run.stage("fit"):
        fit = await asyncio.to_thread(fit_linear, data.views[0], data.truth, data.groups, copies=data.views[1:], seed=bench.plan.seed)
    details: dict[str, Any] = {"strength": fit.strength, "cross_validation": fit.losses, "copies": len(data.views) - 1, "epochs": 0}
    if len(data.views) - 1 < copies:
        details["warnings"] = [f"{len(data.views) - 1} of {copies} augmented copies: this machine was slower than the budget assumes"]
    network = await bench.network_file()
    return Trained(network, fit.head, "frozen network, linear head", fit.head.score(Features(val)), fit.head.score(Features(test)), fit.out_of_fold, details)


async def _tune(bench: Workbench, data: TrainingSet, frozen: Trained, epochs: int, folder: Path) -> Trained:
    """Fine-tunes, and keeps the frozen network where that was better on the validation split."""
    truth = bench.truth("val")
    if truth.all() or not truth.any():
        warning = "not fine-tuned: the val split lacks a class, so nothing would say when to stop"
        return replace(frozen, details=frozen.details | {"warnings": [*frozen.details.get("warnings", []), warning]})
    with bench.run.stage("fine-tune", total=epochs, unit="epochs") as progress:
        tuned = await tuning.tune(bench, data.items, data.truth, frozen.head, epochs, folder, progress)
    details = frozen.details | {"epochs": tuned.best_epoch, "validation_losses": tuned.losses}
    if tuned.network is None:
        return replace(frozen, details=details)
    head = tuned.head
    return Trained(tuned.network, head, "fine-tuned network", head.score(tuned.val), head.score(tuned.test), None, details)


def _measure(bench: Workbench, data: TrainingSet, trained: Trained, traits: dict[str, Traits]) -> Fitted:
    """Calibrates, cuts, and measures on the splits."""
    plan, positive = bench.plan, bench.record.positive
    calibration = calibrate(bench.truth("val"), trained.val, data.truth, trained.out_of_fold, goal=Goal.parse(plan.options.goal), alpha=plan.options.alpha)
    results = [
        evaluate(
            bench.rows[split],
            positive,
            probabilities(logits, calibration.temperature),
            calibration.threshold,
            probabilities=True,
            traits=traits,
            seed=plan.seed,
        )
        for split, logits in (("val", trained.val), ("test", trained.test))
    ]
    return Fitted(
        head=trained.head,
        network=trained.network,
        method=trained.method,
        threshold=calibration.threshold,
        threshold_rule=f"best {plan.options.goal} on {calibration.details['calibrated_on']}",
        temperature=calibration.temperature,
        band=calibration.band,
        images=[i.image for i in data.items],
        val=results[0],
        test=results[1],
        details=trained.details
        | calibration.details
        | {"warnings": [*trained.details.get("warnings", []), *calibration.details["warnings"]]}
        | {"synthetic": data.synthetic},
    )


def calibrate(val_truth: Bools, val: Floats, train_truth: Bools, out_of_fold: Floats | None, *, goal: Goal, alpha: float) -> Calibration:
    """Chooses on the validation split; where it lacks a class, on cross-validated logits of the training images.

    Args:
        val: logits of the validation images, as many as ``val_truth``.
        out_of_fold: logits of the training images by heads that did not see them.
    """
    logits, truth, where, warnings = val, val_truth, "the val split", []
    if truth.all() or not truth.any():
        if out_of_fold is None:
            return Calibration(1.0, 0.5, (0.0, 1.0), {"calibrated_on": "nothing", "warnings": ["too few images to calibrate on: every answer is uncertain"]})
        logits, truth, where = out_of_fold, train_truth, "cross-validated training images"
        warnings.append("the val split lacks a class: temperature, threshold and band come from cross-validated training images")
    temperature = fit_temperature(logits, truth)
    p = probabilities(logits, temperature)
    details = {
        "calibrated_on": where,
        "calibration_images": len(truth),
        "alpha": alpha,
        "calibration": {
            "negative_log_likelihood": [negative_log_likelihood(probabilities(logits, 1.0), truth), negative_log_likelihood(p, truth)],
            "expected_calibration_error": [expected_calibration_error(probabilities(logits, 1.0), truth), expected_calibration_error(p, truth)],
        },
        "warnings": warnings,
    }
    threshold = choose(goal, truth, p)
    low, high = band(p, truth, alpha)
    return Calibration(temperature, threshold, (low, high), details)
