"""``cosmop train gan``: on a dataset version as its collection says, or on a folder of images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cosmop_common.datasets import split_reference
from cosmop_common.folders import upload_folder
from cosmop_common.pb.cosmop.v1 import gan_trainer_pb2, runs_pb2
from cosmop_common.store import Store

from cosmop_console.cli.remote import call, follow, name_and_value, settings_of
from cosmop_console.cli.target import Target
from cosmop_console.cli.watch import say
from cosmop_console.clients import Services

#: What a folder is trained with where nothing else is said: minutes to an hour on two CPU cores.
_FOLDER: dict[str, Any] = {"resolution": 64, "kimg": 100.0, "snapshots": 10, "preset": "auto", "samples": 500}


async def train_gan(target: Target, what: str | Path, wanted: dict[str, Any], options: Sequence[str]) -> None:
    """A GAN run, watched.

    Args:
        what: ``<collection>/<version>``, or a folder of this machine, which is uploaded first.
        wanted: fields of the job that override the collection's; None: its own.
        options: further trainer settings, ``name=value``.
    """
    over = runs_pb2.TrainGanJob(**{k: v for k, v in wanted.items() if v is not None}, options=dict(map(name_and_value, options)))
    async with target.services() as services:
        if isinstance(what, Path):
            name, train = "", runs_pb2.TrainGanJob(dataset=await _upload(target, what), **_FOLDER)
        else:
            name, _ = split_reference(what)
            train = await _as_collection_says(services, name)
            train.dataset = what
        train.MergeFrom(over)
        await follow(services, await call("gan-trainer", services.gan_trainer.StartRun(gan_trainer_pb2.StartGanRunRequest(collection=name, train=train))))


async def _upload(target: Target, folder: Path) -> str:
    store = Store(target.connection)
    try:
        dataset = await upload_folder(store, folder)
    finally:
        store.close()
    say(f"uploaded as {dataset}")
    return dataset


async def _as_collection_says(services: Services, name: str) -> runs_pb2.TrainGanJob:
    collection = await settings_of(services, name)
    gan, evaluation = collection.gan, collection.evaluation
    return runs_pb2.TrainGanJob(
        label=gan.label or collection.positive, resolution=gan.resolution, kimg=gan.kimg, snapshots=gan.snapshots,
        max_seconds=gan.max_seconds, preset=gan.preset, seed=gan.seed, samples=gan.samples,
        options=dict(gan.options) | {"protocol": evaluation.protocol, "measures": ",".join(evaluation.measures)},
    )  # fmt: skip
