"""Training the one-class classifier of a collection, from its positive training images alone.

Two models come of a job: the chosen method (kNN by default) as ``<collection>-one-class``, and the paper's preset beside it
as ``<collection>-one-class-paper``, so that its figures can be put next to each other.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from cosmop_common.datasets import ManifestRow
from cosmop_common.records import ModelCard
from cosmop_common.run_handle import StageHandle
from numpy.typing import NDArray

from cosmop_classifier import registry
from cosmop_classifier.binary import ClassMissingError
from cosmop_classifier.evaluation import SplitEvaluation, evaluate
from cosmop_classifier.features import CHUNK, Item, feature_maps
from cosmop_classifier.heads import Features, Head
from cosmop_classifier.oneclass import OneClassFit, fit_knn, fit_mahalanobis, fit_svm
from cosmop_classifier.training import Fitted, Workbench
from cosmop_classifier.traits import Traits

Floats = NDArray[np.float64]
_METHODS = {
    "knn": "pooled features, cosine kNN",
    "mahalanobis": "pooled features, Mahalanobis distance",
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
    fit, images, scores = await (_with_maps(bench) if method == "svm" else _with_pooled(bench, method))
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


async def _with_pooled(bench: Workbench, method: str) -> tuple[OneClassFit, list[str], dict[str, Floats]]:
    """A head on pooled features; those of the whole train split, because the binary classifier's job wants them too."""
    options, truth = bench.plan.options, bench.truth("train")
    train = await bench.pooled(bench.items("train"), "features of train")
    pooled, images = train[truth], [r.image for r in bench.rows["train"] if r.label == bench.record.positive]
    if synthetic := await bench.synthetic():
        more = await bench.pooled(synthetic, "features of synthetic")
        pooled, images = np.concatenate([pooled, more]), [*images, *(i.image for i in synthetic)]
    with bench.run.stage(f"fit {method}"):
        if method == "knn":
            fit = await asyncio.to_thread(fit_knn, pooled, neighbours=options.neighbours, keep=options.keep)
        else:
            fit = await asyncio.to_thread(fit_mahalanobis, pooled, keep=options.keep, seed=bench.plan.seed)
    scores = {}
    for split in ("val", "test"):
        features = await bench.pooled(bench.items(split), f"features of {split}")
        scores[split] = fit.head.score(Features(features))
    return fit, images, scores


async def _with_maps(bench: Workbench) -> tuple[OneClassFit, list[str], dict[str, Floats]]:
    """The paper's head, on whole feature maps."""
    options = bench.plan.options
    items = [*(i for i, t in zip(bench.items("train"), bench.truth("train"), strict=True) if t), *await bench.synthetic()]
    chosen = _bounded(items, options.paper_images)
    with bench.run.stage("feature maps of train", total=len(chosen), unit="images") as progress:
        maps = await feature_maps(await bench.eye(), chosen, _counted(bench, progress))
    with bench.run.stage("fit svm"):
        fit = await asyncio.to_thread(fit_svm, maps, nu=options.nu, seed=bench.plan.seed)
    if len(chosen) < len(items):
        fit.details["warnings"] = [f"fitted on {len(chosen)} of {len(items)} images, chosen by hash: option paper_images bounds its memory"]
    scores = {split: await _score_maps(bench, bench.rows[split], fit.head, split) for split in ("val", "test")}
    return fit, [i.image for i in chosen], scores


async def _score_maps(bench: Workbench, rows: Sequence[ManifestRow], head: Head, split: str) -> Floats:
    """Scores chunk by chunk: the maps of a split need not fit into memory together."""
    items, eye, scores = bench.items(split), await bench.eye(), []
    with bench.run.stage(f"feature maps of {split}", total=len(rows), unit="images") as progress:
        for start in range(0, len(items), CHUNK):
            maps = await feature_maps(eye, items[start : start + CHUNK], _counted(bench, progress))
            pooled = np.zeros((len(maps), 0), np.float32)
            scores.append(await asyncio.to_thread(head.score, Features(pooled, maps.astype(np.float32))))
    return np.concatenate(scores) if scores else np.zeros(0)


def _counted(bench: Workbench, progress: StageHandle) -> Callable[[int], None]:
    def done(count: int) -> None:
        progress.advance(count)
        bench.run.check()

    return done


def _bounded(items: Sequence[Item], limit: int) -> list[Item]:
    """At most ``limit`` images, chosen by the hash of their ids, in their order."""
    if len(items) <= limit:
        return list(items)
    kept = set(sorted((i.image for i in items), key=lambda image: hashlib.sha256(image.encode()).digest())[:limit])
    return [i for i in items if i.image in kept]


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
