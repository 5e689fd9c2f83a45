"""The roads of a one-class job: images of the store to a fitted head, and to its scores on the splits.

Pooled features are small and kept; feature maps are large, and go by chunk by chunk, whatever the number of images.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

import numpy as np
from cosmop_common.errors import NotReadyError
from cosmop_common.facts import Facts
from cosmop_common.imagesets import read_set
from cosmop_common.pb.cosmop.v1 import facts_pb2
from cosmop_common.run_handle import StageHandle
from numpy.typing import NDArray

from cosmop_classifier.features import CHUNK, Item, feature_maps, given, stored
from cosmop_classifier.heads import Array, Features, Head
from cosmop_classifier.oneclass import MIN_IMAGES, OneClassFit, fit_background, fit_knn, fit_mahalanobis
from cosmop_classifier.oneclass_paper import StreamedPaper, fit_svm
from cosmop_classifier.oneclass_patches import Patches
from cosmop_classifier.training import Workbench

Floats = NDArray[np.float64]
#: What came of a method: the fit, the images that it was fitted on (in the order of its bank), and scores by split.
Outcome = tuple[OneClassFit, list[str], dict[str, Floats]]

_SCREENED = "screened"


class BackgroundMissingError(NotReadyError):
    """There are no background images to set the class against."""


@dataclass(frozen=True)
class _Positives:
    """The images of the class: real ones of the train split, then synthetic ones."""

    items: list[Item]
    groups: list[str]
    pooled: Array


async def fit_method(bench: Workbench, method: str) -> Outcome:
    """Fits one of ``plan.METHODS`` on the positive training images.

    Raises:
        TooFewImagesError: too few of them.
        BackgroundMissingError: ``logistic`` without background images.
    """
    if method == "svm":
        return await _paper(bench)
    if method == "patches":
        return await _patches(bench)
    options, seed = bench.plan.options, bench.plan.seed
    found = await _positives(bench)
    background = await _background(bench) if method == "logistic" else found.pooled[:0]
    with bench.run.stage(f"fit {method}"):
        if method == "knn":
            fit = await asyncio.to_thread(fit_knn, found.pooled, neighbours=options.neighbours, keep=options.keep, groups=found.groups, seed=seed)
        elif method == "logistic":
            fit = await asyncio.to_thread(fit_background, found.pooled, background, keep=options.keep, seed=seed)
        else:
            fit = await asyncio.to_thread(fit_mahalanobis, found.pooled, keep=options.keep, seed=seed)
    order = fit.order if fit.order is not None else range(len(found.items))
    scores = {}
    for split in ("val", "test"):
        scores[split] = fit.head.score(Features(await bench.pooled(bench.items(split), f"features of {split}")))
    return fit, [found.items[i].image for i in order], scores


async def _positives(bench: Workbench) -> _Positives:
    """Features of the whole train split are asked for, because the binary classifier's job wants them too."""
    truth = bench.truth("train")
    train = await bench.pooled(bench.items("train"), "features of train")
    rows = [r for r in bench.rows["train"] if r.label == bench.record.positive]
    synthetic = await bench.synthetic()
    more = [await bench.pooled(synthetic, "features of synthetic")] if synthetic else []
    items = [*(stored(bench.store, r.image) for r in rows), *synthetic]
    return _Positives(items, [*(r.group for r in rows), *(i.image for i in synthetic)], np.concatenate([train[truth], *more]))


async def _background(bench: Workbench) -> Array:
    """Pooled features of background images; none of them is an image of the dataset version."""
    options = bench.plan.options
    own = {row.image for rows in bench.rows.values() for row in rows}
    if options.background == _SCREENED:
        items = [item async for item in _screened(bench) if item.image not in own]
    else:
        items = [item async for item in _named(bench, options.background) if item.image not in own]
    if len(items) < MIN_IMAGES:
        raise BackgroundMissingError(
            f"{len(items)} background images from {options.background!r}; logistic needs at least {MIN_IMAGES}: name an image set with option "
            "background (dataset:, samples:, synthetic:, prefix:), or choose method=knn, which needs none"
        )
    return await bench.pooled(bounded(items, options.background_images), "features of background")


async def _screened(bench: Workbench) -> AsyncIterator[Item]:
    facts, collection = Facts(bench.run.bus), bench.plan.collection
    erased = {s.fact.image async for s in facts.replay(facts_pb2.Erased, collection)}
    async for told in facts.replay(facts_pb2.Screened, collection):
        if not told.fact.people and not told.fact.HasField("refusal") and told.fact.image not in erased:
            yield stored(bench.store, told.fact.image)


async def _named(bench: Workbench, spec: str) -> AsyncIterator[Item]:
    async for _, data in read_set(bench.store, spec, limit=bench.plan.options.background_images):
        yield given(data)


async def _paper(bench: Workbench) -> Outcome:
    """The paper's head: exactly where the maps fit into the bound, otherwise streamed."""
    options, seed = bench.plan.options, bench.plan.seed
    items = await _positive_items(bench)
    sample = bounded(items, options.paper_images)
    with bench.run.stage("feature maps of train", total=len(items), unit="images") as progress:
        maps = await _maps(bench, sample, progress)
        if len(sample) == len(items):
            fit, chosen = await asyncio.to_thread(fit_svm, maps, nu=options.nu, seed=seed), items
        else:
            chosen = bounded(items, options.svm_images)
            fit = await _streamed(bench, maps, sample, items, chosen, progress)
    return fit, [i.image for i in chosen], await _split_scores(bench, fit.head)


async def _streamed(
    bench: Workbench, maps: NDArray[np.float16], sample: Sequence[Item], items: Sequence[Item], chosen: Sequence[Item], progress: StageHandle
) -> OneClassFit:
    fitting = await asyncio.to_thread(StreamedPaper, maps)
    seen = {i.image for i in sample}
    rest = [i for i in items if i.image not in seen]
    for start in range(0, len(rest), CHUNK):
        await asyncio.to_thread(fitting.learn, await _maps(bench, rest[start : start + CHUNK], progress))
    reduced = []
    progress.set(total=len(items) + len(chosen), message="the SVM's images once more")
    for start in range(0, len(chosen), CHUNK):
        reduced.append(await asyncio.to_thread(fitting.reduce, await _maps(bench, chosen[start : start + CHUNK], progress)))
    fit = await asyncio.to_thread(fitting.finish, np.concatenate(reduced), nu=bench.plan.options.nu)
    warning = (
        f"of {len(items)} images the scaler was fitted on {len(sample)}, the PCA on all, the SVM on {len(chosen)}, chosen by hash: "
        "options paper_images and svm_images bound memory and time"
    )
    fit.details["warnings"] = [warning]
    return fit


async def _patches(bench: Workbench) -> Outcome:
    options, items = bench.plan.options, await _positive_items(bench)
    fitting = Patches(len(items), memory=options.patch_memory, keep=options.keep, seed=bench.plan.seed)
    with bench.run.stage("feature maps of train", total=len(items), unit="images") as progress:
        for start in range(0, len(items), CHUNK):
            maps = await _maps(bench, items[start : start + CHUNK], progress)
            await asyncio.to_thread(fitting.learn, maps.astype(np.float32))
    with bench.run.stage("fit patches"):
        fit = await asyncio.to_thread(fitting.finish)
    return fit, [i.image for i in items], await _split_scores(bench, fit.head)


async def _positive_items(bench: Workbench) -> list[Item]:
    return [*(i for i, t in zip(bench.items("train"), bench.truth("train"), strict=True) if t), *await bench.synthetic()]


async def _split_scores(bench: Workbench, head: Head) -> dict[str, Floats]:
    """Scores of a head that wants feature maps."""
    scores = {}
    for split in ("val", "test"):
        items, parts = bench.items(split), [np.zeros(0)]
        with bench.run.stage(f"feature maps of {split}", total=len(items), unit="images") as progress:
            for start in range(0, len(items), CHUNK):
                maps = await _maps(bench, items[start : start + CHUNK], progress)
                parts.append(await asyncio.to_thread(head.score, Features(np.zeros((len(maps), 0), np.float32), maps.astype(np.float32))))
        scores[split] = np.concatenate(parts)
    return scores


async def _maps(bench: Workbench, items: Sequence[Item], progress: StageHandle) -> NDArray[np.float16]:
    def done(count: int) -> None:
        progress.advance(count)
        bench.run.check()

    return await feature_maps(await bench.eye(), items, done)


def bounded(items: Sequence[Item], limit: int) -> list[Item]:
    """At most ``limit`` images, chosen by the hash of their ids, in their order."""
    if len(items) <= limit:
        return list(items)
    kept = set(sorted((i.image for i in items), key=lambda image: hashlib.sha256(image.encode()).digest())[:limit])
    return [i for i in items if i.image in kept]
