"""Fine-tuning as part of a job: images from the store, checkpoints into it, and the tuned network as ONNX."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from cosmop_common.errors import NotFoundError
from cosmop_common.names import run_key
from cosmop_common.run_handle import StageHandle
from cosmop_vision.onnx_session import OnnxSession
from cosmop_vision.runtime import wants_cuda
from numpy.typing import NDArray

from cosmop_classifier.features import CHUNK, Item, decode, read_all
from cosmop_classifier.heads import Array, Features, LinearHead
from cosmop_classifier.training import Workbench

#: Of the job's budget, what is kept for measuring and registering.
_RESERVE = 0.15


@dataclass(frozen=True)
class TunedNetwork:
    """What fine-tuning brought; ``network`` is None where the frozen network was better."""

    network: Path | None
    head: LinearHead
    val: Features
    test: Features
    best_epoch: int
    #: Balanced validation loss before, and after each epoch.
    losses: list[float]


class _Checkpoint:
    """The last checkpoint of a run, reached from the training thread."""

    def __init__(self, bench: Workbench) -> None:
        self._store, self._key = bench.store, run_key(bench.run.id, "finetune.safetensors")
        self._loop = asyncio.get_running_loop()

    async def load(self) -> bytes | None:
        try:
            return await self._store.get(self._key)
        except NotFoundError:
            return None

    def save(self, data: bytes) -> None:
        asyncio.run_coroutine_threadsafe(self._store.put(self._key, data), self._loop).result()

    async def forget(self) -> None:
        await self._store.delete(self._key)


async def tune(
    bench: Workbench, items: Sequence[Item], truth: NDArray[np.bool_], head: LinearHead, epochs: int, folder: Path, progress: StageHandle
) -> TunedNetwork:
    """Fine-tunes from a head on the frozen network; goes on where an earlier attempt of the same run stopped.

    Args:
        items: the training images, n of them.
        truth: (n,).
        folder: where the tuned network is written.
    """
    from cosmop_vision.export import write_onnx
    from cosmop_vision.modules import load_backbone

    from cosmop_classifier.finetune import Hooks, Images, Recipe, fine_tune

    loop = asyncio.get_running_loop()

    def images(of: Sequence[Item], labels: NDArray[np.bool_]) -> Images:
        def read(indices: Sequence[int]) -> Array:
            data = asyncio.run_coroutine_threadsafe(read_all([of[i] for i in indices]), loop).result()
            return decode(bench.preprocessing, data)

        return Images([i.image for i in of], labels, read)

    checkpoint = _Checkpoint(bench)
    deadline = bench.started + bench.plan.max_seconds * (1 - _RESERVE) if bench.plan.max_seconds else float("inf")
    device, options = "cuda" if wants_cuda(bench.settings) else "cpu", bench.plan.options
    half = options.precision == "bf16" or (options.precision == "auto" and device == "cuda")
    recipe = Recipe(epochs, bench.plan.seed, device, options.augmentation == "paper", half, deadline)
    hooks = Hooks(bench.run.check, lambda number, loss: progress.set(done=number, message=f"validation loss {loss:.4f}"), checkpoint.save)
    train, val = images(items, truth), images(bench.items("val"), bench.truth("val"))
    before = await checkpoint.load()
    backbone = await asyncio.to_thread(load_backbone, bench.plan.network, bench.settings)
    tuned = await asyncio.to_thread(fine_tune, backbone, head, train, val, recipe, checkpoint=before, hooks=hooks)
    nothing = Features(np.zeros((0, bench.network.features), np.float32))
    result = TunedNetwork(None, tuned.head, nothing, nothing, tuned.best_epoch, tuned.losses)
    if tuned.best_epoch:
        path = folder / "network.onnx"
        await asyncio.to_thread(write_onnx, tuned.network, path, size=bench.preprocessing.size, outputs=("pooled", "map"), spatial=("map",))
        session = OnnxSession(path, bench.settings)
        on_val, on_test = [await _features(bench, session, bench.items(split)) for split in ("val", "test")]
        result = TunedNetwork(path, tuned.head, on_val, on_test, tuned.best_epoch, tuned.losses)
    await checkpoint.forget()
    return result


async def _features(bench: Workbench, session: OnnxSession, items: Sequence[Item]) -> Features:
    """Pooled features of a split by the tuned network, as it will be served."""
    parts = [np.zeros((0, bench.network.features), np.float32)]
    for start in range(0, len(items), CHUNK):
        data = await read_all(items[start : start + CHUNK])
        pixels = await asyncio.to_thread(decode, bench.preprocessing, data)
        parts.append((await asyncio.to_thread(session.run, pixels, ["pooled"]))[0])
        bench.run.check()
    return Features(np.concatenate(parts))
