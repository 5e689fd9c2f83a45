"""The job ``generate``: a snapshot and seeds in, a synthetic set out."""

from __future__ import annotations

import asyncio

import torch
from cosmop_common import imagesets
from cosmop_common.errors import NotFoundError
from cosmop_common.names import run_key, sha256_hex, snapshot_key
from cosmop_common.pb.cosmop.v1 import runs_pb2
from cosmop_common.records import GanRunRecord, SnapshotRecord, SyntheticRecord
from cosmop_common.run_handle import RunHandle
from cosmop_common.store import Store

from cosmop_gan_trainer import snapshots
from cosmop_gan_trainer.errors import DamagedSnapshotError, NoSnapshotError, TrainerOptionError
from cosmop_gan_trainer.generator import Generator

_BATCH = 64


async def generate(run: RunHandle, store: Store, device: torch.device) -> None:
    """Makes ``count`` images, one a seed from ``seed`` on, and stores them with where they came from. Done before, it does nothing.

    Raises:
        NoSnapshotError: the run has no best snapshot yet.
        NotFoundError: there is no such run or snapshot.
        DamagedSnapshotError: the weights are not those that were recorded.
    """
    job = run.job.generate
    key = run_key(run.id, "synthetic.json")
    if await store.exists(key):
        run.result(synthetic=run.id)
        return
    if not job.count:
        raise TrainerOptionError("count is 0: say how many images to make")
    truncation = job.truncation or 1.0
    with run.stage("generate", total=job.count, unit="images") as stage:
        snapshot = await find_snapshot(store, job)
        weights = await store.get(snapshot.weights)
        if sha256_hex(weights) != snapshot.weights_sha256:
            raise DamagedSnapshotError(f"{snapshot.weights} does not hold the recorded weights: take another snapshot of {job.gan_run}, or restore the object")
        generator = await asyncio.to_thread(snapshots.load_generator, weights, device)
        images: list[tuple[str, bytes]] = []
        stage.set(done=0)
        for start in range(0, job.count, _BATCH):
            run.check()
            seeds = range(job.seed + start, job.seed + min(start + _BATCH, job.count))
            images += await asyncio.to_thread(_encoded, generator, seeds, truncation, job.label)
            stage.set(done=len(images))
        await store.put(run_key(run.id, "samples.zip"), imagesets.pack(images), "application/zip")
        record = SyntheticRecord(
            run=run.id,
            gan_run=job.gan_run,
            kimg=snapshot.kimg,
            count=job.count,
            seed=job.seed,
            truncation=truncation,
            label=job.label,
            samples=run_key(run.id, "samples.zip"),
        )
        await record.save(store, key)
    run.result(synthetic=run.id, kimg=f"{snapshot.kimg:g}")


async def find_snapshot(store: Store, job: runs_pb2.GenerateJob) -> SnapshotRecord:
    """The snapshot that a job names; a negative kimg is the run's best."""
    kimg = job.kimg
    if kimg < 0:
        try:
            best = (await GanRunRecord.load(store, run_key(job.gan_run, "gan.json"))).best
        except NotFoundError as error:
            raise NoSnapshotError(f"GAN run {job.gan_run!r} has no result yet: wait for its end, or name a snapshot by its kimg") from error
        if best is None:
            raise NoSnapshotError(f"GAN run {job.gan_run!r} ended without a best snapshot: name one by its kimg")
        kimg = best
    try:
        return await SnapshotRecord.load(store, snapshot_key(job.gan_run, kimg, "snapshot.json"))
    except NotFoundError as error:
        raise NotFoundError(f"GAN run {job.gan_run!r} has no snapshot at {kimg:g} kimg: ListSnapshots names those it has") from error


def _encoded(generator: Generator, seeds: range, truncation: float, label: str) -> list[tuple[str, bytes]]:
    pixels = snapshots.draw(generator, seeds, truncation=truncation, label=label)
    return [(f"{seed:010d}.png", snapshots.png(image)) for seed, image in zip(seeds, pixels, strict=True)]
