"""Training the one-class classifier of a collection, from its positive training images alone.

Two models come of a job: the chosen method (kNN by default) as ``<collection>-one-class``, and the paper's preset beside it
as ``<collection>-one-class-paper``, so that its figures can be put next to each other.
"""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
from cosmop_common.records import ModelCard
from numpy.typing import NDArray

from cosmop_classifier import registry
from cosmop_classifier.binary import ClassMissingError
from cosmop_classifier.evaluation import SplitEvaluation, evaluate
from cosmop_classifier.fit_one_class import fit_method
from cosmop_classifier.oneclass import OneClassFit
from cosmop_classifier.training import Fitted, Workbench
from cosmop_classifier.traits import Traits

Floats = NDArray[np.float64]
_METHODS = {
    "knn": "pooled features, cosine kNN",
    "mahalanobis": "pooled features, Mahalanobis distance",
    "logistic": "pooled features, logistic regression against background images",
    "patches": "patches of the feature map, a coreset of them, nearest neighbours",
    "svm": "the paper's: feature map, standard scaler, PCA, one-class SVM",
}


async def train_one_class(bench: Workbench) -> list[ModelCard]:
    """Trains and registers: the collection's one-class model first, then the paper's where it is asked for.

    Raises:
        ClassMissingError: no positive training image.
        TooFewImagesError: too few of them.
    """
    options, collection = bench.plan.options, bench.plan.collection
    if not bench.truth("train").any():
        raise ClassMissingError(f"the train split of {bench.plan.dataset} has no {bench.record.positive!r} image: a one-class model learns from nothing else")
    paper = None
    if options.paper == "yes" or options.method == "svm":
        paper = await _train(bench, collection + registry.PAPER_SUFFIX, "svm", {})
    more = {"paper": _summary(paper)} if paper else {}
    default = await _train(bench, registry.model_name(collection, registry.ONE_CLASS), options.method, more)
    return [default] if paper is None else [default, paper]


async def _train(bench: Workbench, name: str, method: str, more: dict[str, Any]) -> ModelCard:
    version = bench.version(method=method)
    if (card := await registry.find_card(bench.store, name, version)) is not None:
        return card
    fit, images, scores = await fit_method(bench, method)
    with bench.run.stage(f"measure {method}"):
        val, test = await asyncio.to_thread(_measure, bench, fit, scores, await bench.traits())
    network = await bench.network_file()
    details = fit.details | more | {"training_images": len(images)}
    with bench.run.stage(f"register {method}"):
        return await bench.register(
            name,
            version,
            registry.ONE_CLASS,
            Fitted(
                head=fit.head,
                network=network,
                method=_METHODS[method],
                threshold=fit.threshold,
                threshold_rule=fit.threshold_rule,
                temperature=1.0,
                band=(fit.threshold, fit.threshold),
                images=images,
                val=val,
                test=test,
                details=details,
            ),
        )


def _measure(bench: Workbench, fit: OneClassFit, scores: dict[str, Floats], traits: dict[str, Traits]) -> tuple[SplitEvaluation, SplitEvaluation]:
    val, test = (
        evaluate(bench.rows[split], bench.record.positive, scores[split], fit.threshold, traits=traits, seed=bench.plan.seed) for split in ("val", "test")
    )
    return val, test


def _summary(card: ModelCard) -> dict[str, Any]:
    """The paper's preset, as the default model's card tells of it."""
    return {
        "model": f"{card.name}/{card.version}",
        "threshold": card.threshold,
        "metrics": {split: {name: value.model_dump() for name, value in values.items()} for split, values in card.metrics.items()},
        "confusion": card.confusion,
        "components": card.details.get("components"),
        "explained_variance": card.details.get("explained_variance"),
    }
