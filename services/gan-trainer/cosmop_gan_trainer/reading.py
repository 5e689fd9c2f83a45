"""A run's training images: read from the store, decoded and cut to size; what was prepared once is kept for the next run.

Decoding is most of a start: the pixels of an immutable set are therefore stored in shards under a key that follows from the images'
names and from how they are cut. Everything below ``prepared/`` may be deleted at any time, and is then made again.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import safetensors.numpy
from cosmop_common import imagesets
from cosmop_common.datasets import load_dataset
from cosmop_common.errors import InvalidInputError, NotFoundError
from cosmop_common.names import FOLDERS, sha256_hex
from cosmop_common.pb.cosmop.v1 import runs_pb2
from cosmop_common.store import Store

from cosmop_gan_trainer.config import RunConfig
from cosmop_gan_trainer.data import Images

log = logging.getLogger(__name__)

RECIPE = 1
"""Of ``data.square``: raise it when the same bytes give other pixels, and nothing stale is read."""
_SHARD_BYTES = 64 * 2**20
_READ_TOGETHER = 32


@dataclass(frozen=True)
class Part:
    """Images of one class: the names of a set's images that belong to it."""

    images: imagesets.ImageSet
    names: Sequence[str]


async def find_parts(store: Store, job: runs_pb2.TrainGanJob, *, conditional: bool) -> dict[str, Part]:
    """What a job learns from, by class; unconditional: one part under the job's label.

    A dataset version gives its train split. Classes are those of the version, or the sub-folders of a folder.

    Raises:
        InvalidInputError: a folder has no labels, or no sub-folders to tell its classes.
        NotFoundError: there is no such set.
    """
    if not job.dataset.startswith("prefix:"):
        labels = [job.label]
        if conditional:
            dataset, _ = await load_dataset(store, job.dataset)
            labels = sorted(dataset.classes)
        sets = {label: await imagesets.open_set(store, training_set(job, label)) for label in labels}
        return {label: Part(images, images.names) for label, images in sets.items()}
    if job.label:
        raise InvalidInputError(f"label {job.label!r} of {job.dataset}: a folder has no labels; leave the label empty, or name a dataset version")
    images = await imagesets.open_set(store, job.dataset)
    if not images.names:
        raise NotFoundError(f"{job.dataset} holds no images: upload them first")
    if not conditional:
        return {"": Part(images, images.names)}
    prefix = job.dataset.removeprefix("prefix:")
    classes: dict[str, list[str]] = {}
    for name in images.names:
        label, slash, _ = name.removeprefix(prefix).lstrip("/").partition("/")
        if not slash:
            raise InvalidInputError(f"{name} lies in no sub-folder of {job.dataset}: a conditional run takes the sub-folders' names as classes")
        classes.setdefault(label, []).append(name)
    return {label: Part(images, classes[label]) for label in sorted(classes)}


def training_set(job: runs_pb2.TrainGanJob, label: str) -> str:
    """The image set that a job learns from, and that its samples are compared with; no label: of all classes."""
    return job.dataset if job.dataset.startswith("prefix:") else imagesets.dataset_set(job.dataset, split="train", label=label)


async def read_images(store: Store, parts: Sequence[Part], config: RunConfig, report: Callable[[int], None]) -> Images:
    """Decodes all parts, one class each in their order, or takes them from what an earlier run prepared.

    Args:
        report: told the number of images so far; may raise to end reading.
    """
    resolution, crop = config.network.resolution, config.train.crop
    key = _key(parts, resolution, crop)
    if key and (images := await _prepared(store, key, resolution)) is not None:
        report(len(images.pixels))
        return images
    images = Images(resolution, crop=crop)
    for label, part in enumerate(parts):
        for start in range(0, len(part.names), _READ_TOGETHER):
            names = part.names[start : start + _READ_TOGETHER]
            batch = zip(names, await part.images.read(names), strict=True)
            await asyncio.to_thread(images.add_all, batch, label)
            report(len(images.pixels))
    for name, why in images.refused.items():
        log.warning("image %s is left out: %s", name, why)
    if key and images.pixels:
        await _keep(store, key, images)
    return images


def _key(parts: Sequence[Part], resolution: int, crop: str) -> str:
    """Where the prepared pixels lie; empty where the names do not tell the images' bytes."""
    if not all(part.images.content_addressed or part.images.spec.startswith(f"prefix:{FOLDERS}") for part in parts):
        return ""
    told = json.dumps([RECIPE, resolution, crop, [list(part.names) for part in parts]])
    return f"prepared/{hashlib.sha256(told.encode()).hexdigest()}"


async def _prepared(store: Store, key: str, resolution: int) -> Images | None:
    """What was prepared under a key, whole and undamaged; None otherwise."""
    try:
        index = await store.get_json(f"{key}/index.json")
        images = Images(resolution, refused=dict(index["refused"]))
        for number, digest in enumerate(index["shards"]):
            data = await store.get(f"{key}/{number:05d}.safetensors")
            if sha256_hex(data) != digest:
                log.warning("%s/%05d.safetensors is damaged: the images are decoded again", key, number)
                return None
            shard = safetensors.numpy.load(data)
            images.pixels += list(shard["pixels"])
            images.labels += shard["labels"].tolist()
    except NotFoundError:
        return None
    return images


async def _keep(store: Store, key: str, images: Images) -> None:
    """Stores the pixels; the index comes last, so that what it names is there."""
    count = max(1, _SHARD_BYTES // (3 * images.resolution**2))
    shards = []
    for number, start in enumerate(range(0, len(images.pixels), count)):
        pixels, labels = np.stack(images.pixels[start : start + count]), np.asarray(images.labels[start : start + count], dtype=np.int64)
        data = safetensors.numpy.save({"pixels": pixels, "labels": labels})
        await store.put(f"{key}/{number:05d}.safetensors", data)
        shards.append(sha256_hex(data))
    await store.put_json(f"{key}/index.json", {"shards": shards, "refused": images.refused})
