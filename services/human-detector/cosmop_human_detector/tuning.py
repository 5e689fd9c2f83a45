"""Fine-tuning: the whole network and its head, from where the head on the published network left off. Needs torch.

The head was fitted first, so that its first gradients do not undo what the network knows (the usual order of transfer learning).
Batch normalisation keeps its statistics: batches are small, and every image then counts for itself, so that several processes take
the steps that one would. AdamW (Loshchilov and Hutter, ICLR 2019) under a cosine schedule; the epoch with the smallest validation
loss is kept, the state before the first included, and two epochs that bring nothing end the training.

A checkpoint holds all that the rest of a training depends on: what was interrupted ends, on the CPU, with the same bits.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import safetensors
import safetensors.torch
import torch
from cosmop_common.errors import CancelledError, StoppingError
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from cosmop_human_detector.curves import Epoch
from cosmop_human_detector.epoch_order import batches, epoch_order
from cosmop_human_detector.errors import CheckpointError
from cosmop_human_detector.pictures import Array, Pictures
from cosmop_human_detector.plan import Plan
from cosmop_human_detector.samples import Sample
from cosmop_human_detector.team import Team
from cosmop_human_detector.tunable_filter import TunableFilter

_LEARNING_RATE = {"network": 1e-4, "head": 1e-3}
_WEIGHT_DECAY = 1e-2
_PATIENCE = 2
_CHECKPOINT_SECONDS = 300.0


@dataclass(frozen=True)
class Hooks:
    """What training asks, tells and keeps. Only the leader's are called."""

    #: Asked after each batch: raises ``StoppingError`` or ``CancelledError`` when training should end.
    check: Callable[[], None] = lambda: None
    #: Told after each step how many images it had.
    advance: Callable[[int], None] = lambda _images: None
    epoch: Callable[[list[Epoch]], None] = lambda _epochs: None
    save: Callable[[bytes], None] = lambda _data: None


@dataclass
class Tuner:
    """One fine-tuning, in one of the team's processes."""

    model: TunableFilter
    plan: Plan
    train: Sequence[Sample]
    val: Sequence[Sample]
    pictures: Pictures
    team: Team = field(default_factory=Team)
    hooks: Hooks = field(default_factory=Hooks)
    #: The epochs that are done; the first is the state before training.
    epochs: list[Epoch] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.model.to(self.team.device).eval()
        head = [self.model.weight, self.model.bias]
        groups = [
            {"params": list(self.model.backbone.parameters()), "lr": _LEARNING_RATE["network"]},
            {"params": head, "lr": _LEARNING_RATE["head"]},
        ]
        self._optimiser = torch.optim.AdamW(groups, weight_decay=_WEIGHT_DECAY)
        self._epoch_batches = len(list(batches(epoch_order(self.train, self.plan.seed, 1), self.plan.batch)))
        #: Steps done in the epoch that is under way, and the sum of its losses over images.
        self._step, self._loss, self._seen = 0, 0.0, 0
        #: Images in all steps so far.
        self._images = 0
        self._best: dict[str, Tensor] | None = None
        self._saved = time.monotonic()

    @property
    def best_epoch(self) -> int:
        """The epoch with the smallest validation loss; the earlier of two that are equal."""
        return min(range(len(self.epochs)), key=lambda i: (self.epochs[i].val_loss, i))

    def run(self) -> None:
        """Trains to the end and leaves the best state in the model.

        Raises:
            StoppingError: the leader was told to stop; a checkpoint was saved. ``CancelledError`` likewise, without one.
        """
        if not self.epochs:
            self._close_epoch(train_loss=None)
        while len(self.epochs) - 1 < self.plan.epochs and len(self.epochs) - 1 - self.best_epoch < _PATIENCE:
            self._train_epoch(len(self.epochs))
            self._close_epoch(train_loss=self._loss / max(1, self._seen))
            self._save()
        if self._best is not None:
            self.model.load_state_dict(self._best)

    def scores(self, samples: Sequence[Sample]) -> NDArray[np.float64]:
        """The score of each sample; NaN where it does not decode. Shared among the processes."""
        found = torch.full((len(samples),), torch.nan, dtype=torch.float64)
        mine = list(range(self.team.rank, len(samples), self.team.size))
        done = 0
        groups = [mine[i : i + self.plan.batch] for i in range(0, len(mine), self.plan.batch)]
        # Each process asks as often as the others do, though its share may be a batch shorter.
        rounds = math.ceil(math.ceil(len(samples) / self.team.size) / self.plan.batch)
        arrays = self.pictures.batches([samples[i] for i in group] for group in groups)
        for number in range(rounds):
            if number < len(groups):
                places, array = next(arrays)
                if places:
                    with torch.inference_mode():
                        found[[groups[number][p] for p in places]] = torch.sigmoid(self._logits(array)).double().cpu()
                done += len(groups[number])
            self._stop_if_told()
        if self.team.size > 1:
            told = torch.stack([found.nan_to_num(), found.isnan().logical_not().double()]).float().to(self.team.device)
            self.team.sum([told])
            found = torch.where(told[1].cpu() > 0, told[0].cpu().double(), torch.nan)
        return found.numpy()

    def checkpoint(self) -> bytes:
        """The whole state."""
        adam = self._optimiser.state_dict()
        tensors = {f"model/{k}": v for k, v in self._state().items()} | {f"best/{k}": v.clone() for k, v in (self._best or {}).items()}
        for index, state in adam["state"].items():
            tensors |= {f"adam/{index}/{name}": value.detach().cpu().clone() for name, value in state.items()}
        told: dict[str, Any] = {"plan": self.plan.model_dump(mode="json"), "epochs": [e.as_dict() for e in self.epochs]}
        told |= {"step": self._step, "loss": self._loss, "seen": self._seen, "images": self._images}
        return safetensors.torch.save(tensors, metadata={"told": json.dumps(told)})

    def restore(self, data: bytes) -> None:
        """Goes back to where a checkpoint was written. Raises ``CheckpointError`` where it is none of this training."""
        try:
            tensors = safetensors.torch.load(data)
            told = json.loads(read_metadata(data)["told"])
            if told["plan"] != self.plan.model_dump(mode="json"):
                raise ValueError("it was written with other settings")
            part = {name: {k.removeprefix(f"{name}/"): v for k, v in tensors.items() if k.startswith(f"{name}/")} for name in ("model", "best", "adam")}
            self.model.load_state_dict(part["model"])
            self._best = part["best"] or None
            state: dict[int, dict[str, Tensor]] = {}
            for key, value in part["adam"].items():
                index, _, name = key.partition("/")
                state.setdefault(int(index), {})[name] = value
            self._optimiser.load_state_dict({"state": state, "param_groups": self._optimiser.state_dict()["param_groups"]})
            self.epochs = [Epoch(**e) for e in told["epochs"]]
            self._step, self._loss, self._seen, self._images = told["step"], told["loss"], told["seen"], told["images"]
        except (ValueError, KeyError, TypeError, RuntimeError, safetensors.SafetensorError) as error:
            raise CheckpointError(f"the checkpoint does not fit this training ({error}): start a new run for new settings") from error

    def _train_epoch(self, number: int) -> None:
        order = list(batches(epoch_order(self.train, self.plan.seed, number), self.plan.batch))
        remaining = order[self._step :]
        mine = ([batch[i] for i in range(self.team.rank, len(batch), self.team.size)] for batch in remaining)
        for batch, (places, array) in zip(remaining, self.pictures.batches(mine, (self.plan.seed, number)), strict=True):
            share = batch[self.team.rank :: self.team.size]
            self._take_step(number, [share[p] for p in places], array, len(batch))
            self._images += len(batch)
            self.hooks.advance(len(batch))
            self._stop_if_told()

    def _take_step(self, number: int, samples: Sequence[Sample], array: Array, total: int) -> None:
        """One step on this process's share of a batch of ``total`` images."""
        steps = self._epoch_batches * self.plan.epochs
        done = (number - 1) * self._epoch_batches + self._step
        for group, rate in zip(self._optimiser.param_groups, _LEARNING_RATE.values(), strict=True):
            group["lr"] = rate * 0.5 * (1 + math.cos(math.pi * min(1.0, done / max(1, steps))))
        parameters = [p for group in self._optimiser.param_groups for p in group["params"]]
        for parameter in parameters:
            parameter.grad = torch.zeros_like(parameter)
        loss = torch.zeros(2, device=self.team.device)
        if samples:
            truth = torch.tensor([float(s.people) for s in samples], device=self.team.device)
            lost = functional.binary_cross_entropy_with_logits(self._logits(array), truth, reduction="sum")
            (lost / total).backward()  # type: ignore[no-untyped-call]
            loss = torch.stack([lost.detach(), torch.tensor(float(len(samples)), device=self.team.device)])
        self.team.sum([*(p.grad for p in parameters if p.grad is not None), loss])
        self._optimiser.step()
        self._step += 1
        self._loss += float(loss[0])
        self._seen += int(loss[1])

    def _logits(self, array: Array) -> Tensor:
        device = self.team.device
        half = self.plan.precision == "bf16" or (not self.plan.precision and device.type == "cuda")
        with torch.autocast(device.type, torch.bfloat16, enabled=half):
            logits: Tensor = self.model(torch.from_numpy(array).to(device))
        return logits.float()

    def _close_epoch(self, train_loss: float | None) -> None:
        """Measures on the validation images what an epoch brought."""
        found = self.scores(self.val)
        whole = ~np.isnan(found)
        people = np.array([s.people for s in self.val])[whole]
        self.epochs.append(Epoch.measure(found[whole], people, train_loss))
        self._step, self._loss, self._seen = 0, 0.0, 0
        if self.best_epoch == len(self.epochs) - 1:
            self._best = self._state()
        if not self.team.rank:
            self.hooks.epoch(self.epochs)

    def _stop_if_told(self) -> None:
        """Ends training in all processes where the leader is told to; saves now and then otherwise."""
        stop: StoppingError | CancelledError | None = None
        try:
            if not self.team.rank:
                self.hooks.check()
        except (StoppingError, CancelledError) as error:
            stop = error
        if self.team.any(stop is not None):
            # Before the first epoch's end there is nothing to go on from.
            if self.epochs and not isinstance(stop, CancelledError):
                self._save()
            raise stop or StoppingError("the leader was told to stop")
        if self.epochs and time.monotonic() - self._saved > _CHECKPOINT_SECONDS:
            self._save()

    def _save(self) -> None:
        if not self.team.rank:
            self.hooks.save(self.checkpoint())
        self._saved = time.monotonic()

    def _state(self) -> dict[str, Tensor]:
        return {key: value.detach().cpu().clone() for key, value in self.model.state_dict().items()}


def images_done(checkpoint: bytes) -> int:
    """How many images the steps behind a checkpoint had."""
    return int(json.loads(read_metadata(checkpoint)["told"])["images"])


def read_metadata(data: bytes) -> dict[str, str]:
    """The metadata in a safetensors file's header."""
    length = int.from_bytes(data[:8], "little")
    metadata: dict[str, str] = json.loads(data[8 : 8 + length])["__metadata__"]
    return metadata
