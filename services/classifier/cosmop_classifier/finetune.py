"""Fine-tuning: the whole network and its head, from where the frozen network's head left off.

The head was fitted on the frozen network first, so that its first gradients do not undo what the network knows (the usual
order of transfer learning). Batch normalisation keeps its ImageNet statistics: batches are small. Every image is augmented
anew in every epoch. The model with the smallest validation loss is kept, the frozen one included, so that fine-tuning cannot
end worse than it began on the images it is judged by.

Each epoch leaves a checkpoint: an interrupted training goes on with the next epoch and, on the CPU, ends with the same weights.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.torch import save
from torch import nn

from cosmop_classifier import augment
from cosmop_classifier.heads import Array, LinearHead

Bools = NDArray[np.bool_]

_BATCH = 32
_LEARNING_RATE = {"network": 1e-4, "head": 1e-3}
_WEIGHT_DECAY = 1e-2
_PATIENCE = 3
#: Copies with these numbers and above are epochs' augmentations; those below are the frozen head's.
_FIRST_COPY = 1000


@dataclass(frozen=True)
class Images:
    """Images that can be read in any order."""

    ids: Sequence[str]
    truth: Bools
    #: Indices to preprocessed pixels (n, 3, s, s).
    read: Callable[[Sequence[int]], Array]


@dataclass(frozen=True)
class Hooks:
    """What training tells, asks and keeps."""

    #: Called after each batch; may raise to stop.
    check: Callable[[], None] = lambda: None
    #: Called after each epoch with its number and validation loss.
    epoch: Callable[[int, float], None] = lambda _number, _loss: None
    save: Callable[[bytes], None] = lambda _data: None


@dataclass(frozen=True)
class Recipe:
    """How to train."""

    epochs: int
    seed: int = 0
    device: str = "cpu"
    augmented: bool = True
    #: Mixed precision: the forward pass in bfloat16, weights and sums in float32. Its exponents are float32's: no loss scaling.
    half: bool = False
    #: On ``time.monotonic``'s clock; an epoch that it cuts short still counts.
    deadline: float = float("inf")


@dataclass
class Tuned:
    """What came of it."""

    network: nn.Module
    head: LinearHead
    #: Balanced validation loss before, and after each epoch.
    losses: list[float] = field(default_factory=list)
    best_epoch: int = 0


def fine_tune(
    network: nn.Module, head: LinearHead, train: Images, val: Images, recipe: Recipe, *, checkpoint: bytes | None = None, hooks: Hooks | None = None
) -> Tuned:
    """Trains until the recipe's epochs are done, three epochs brought nothing, or its deadline has come.

    Args:
        network: images to (pooled (n, c), map); changed in place.
        checkpoint: what ``hooks.save`` was given last by an interrupted training of the same.
    """
    trainer = _Trainer(network.to(recipe.device), head, train, val, recipe, hooks or Hooks())
    if checkpoint is not None:
        trainer.restore(checkpoint)
    return trainer.run()


class _Trainer:
    def __init__(self, network: nn.Module, head: LinearHead, train: Images, val: Images, recipe: Recipe, hooks: Hooks) -> None:
        self.train, self.val = train, val
        self.recipe, self.hooks = recipe, hooks
        linear = nn.Linear(len(head.weight), 1)
        with torch.no_grad():
            linear.weight.copy_(torch.from_numpy(np.ascontiguousarray(head.weight, np.float32))[None])
            linear.bias.fill_(head.bias)
        self.model = nn.ModuleDict({"network": network, "head": linear}).to(recipe.device)
        # Statistics stay; gradients flow all the same.
        self.model.eval()
        groups = [{"params": list(self.model[name].parameters()), "lr": rate} for name, rate in _LEARNING_RATE.items()]
        self.optimizer = torch.optim.AdamW(groups, weight_decay=_WEIGHT_DECAY)
        steps = recipe.epochs * -(-len(train.ids) // _BATCH)
        self.schedule = torch.optim.lr_scheduler.CosineAnnealingLR(self.optimizer, max(1, steps))
        positive = int(train.truth.sum())
        self.loss = nn.BCEWithLogitsLoss(pos_weight=torch.tensor((len(train.truth) - positive) / positive, device=recipe.device))
        self.losses: list[float] = []
        self.best = self._state()
        self.best_epoch = 0

    def run(self) -> Tuned:
        if not self.losses:
            self.losses.append(self.validate())
        while self._goes_on():
            number = len(self.losses)
            self._epoch(number)
            loss = self.validate()
            self.losses.append(loss)
            if loss < self.losses[self.best_epoch]:
                self.best_epoch, self.best = number, self._state()
            self.hooks.epoch(number, loss)
            self.hooks.save(self._checkpoint())
        self.model.load_state_dict(self.best)
        linear = self.model["head"]
        weight = linear.weight.detach().cpu().numpy()[0].astype(np.float32)  # type: ignore[operator]
        head = LinearHead(weight, float(linear.bias.detach().cpu()[0]))  # type: ignore[operator]
        return Tuned(self.model["network"].cpu(), head, self.losses, self.best_epoch)

    def validate(self) -> float:
        """Mean of the two classes' losses on the validation images."""
        logits = []
        with torch.inference_mode():
            for indices in _batches(np.arange(len(self.val.ids))):
                logits.append(self._logits(self.val.read(indices)).float().cpu())
                self.hooks.check()
        z, y = torch.cat(logits), torch.from_numpy(self.val.truth)
        each = nn.functional.binary_cross_entropy_with_logits(z, y.float(), reduction="none")
        return float((each[y].mean() + each[~y].mean()) / 2)

    def restore(self, data: bytes) -> None:
        """Goes back to where a checkpoint was written."""
        import tempfile

        with tempfile.NamedTemporaryFile(suffix=".safetensors") as file:
            file.write(data)
            file.flush()
            with safe_open(file.name, framework="pt") as stored:
                tensors = {key: stored.get_tensor(key) for key in stored.keys()}  # noqa: SIM118 - not a dict
                told = json.loads(stored.metadata()["told"])
        part = {name: {k.removeprefix(f"{name}/"): v for k, v in tensors.items() if k.startswith(f"{name}/")} for name in ("model", "best", "adam")}
        self.model.load_state_dict(part["model"])
        self.best = part["best"]
        self.best_epoch, self.losses = told["best_epoch"], told["losses"]
        state: dict[int, dict[str, torch.Tensor]] = {}
        for key, value in part["adam"].items():
            index, _, name = key.partition("/")
            state.setdefault(int(index), {})[name] = value
        self.optimizer.load_state_dict({"state": state, "param_groups": told["groups"]})
        self.schedule.load_state_dict(told["schedule"])

    def _goes_on(self) -> bool:
        done = len(self.losses) - 1
        return done < self.recipe.epochs and done - self.best_epoch < _PATIENCE and time.monotonic() < self.recipe.deadline

    def _epoch(self, number: int) -> None:
        order = np.random.default_rng([self.recipe.seed, number]).permutation(len(self.train.ids))
        for indices, pixels in _ahead(self.train.read, _batches(order)):
            if time.monotonic() > self.recipe.deadline:
                return
            maps = [augment.draw(self.recipe.seed, self.train.ids[i], _FIRST_COPY + number) for i in indices]
            seen = augment.apply(pixels, maps) if self.recipe.augmented else pixels
            target = torch.from_numpy(self.train.truth[indices]).float().to(self.recipe.device)
            with torch.autocast(self.recipe.device, dtype=torch.bfloat16, enabled=self.recipe.half):
                logits = self._logits(seen)
            loss = self.loss(logits.float(), target)
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            self.optimizer.step()
            self.schedule.step()
            self.hooks.check()

    def _logits(self, pixels: Array) -> torch.Tensor:
        pooled, _ = self.model["network"](torch.from_numpy(np.ascontiguousarray(pixels)).to(self.recipe.device))
        logits: torch.Tensor = self.model["head"](pooled)[:, 0]
        return logits

    def _state(self) -> dict[str, torch.Tensor]:
        return {key: value.detach().cpu().clone() for key, value in self.model.state_dict().items()}

    def _checkpoint(self) -> bytes:
        adam = self.optimizer.state_dict()
        tensors = {f"model/{k}": v for k, v in self._state().items()} | {f"best/{k}": v.clone() for k, v in self.best.items()}
        for index, state in adam["state"].items():
            tensors |= {f"adam/{index}/{name}": value.detach().cpu().clone() for name, value in state.items()}
        told: dict[str, Any] = {"best_epoch": self.best_epoch, "losses": self.losses, "groups": adam["param_groups"], "schedule": self.schedule.state_dict()}
        return save(tensors, metadata={"told": json.dumps(told)})


def _batches(order: NDArray[np.int64]) -> Iterator[list[int]]:
    for start in range(0, len(order), _BATCH):
        yield [int(i) for i in order[start : start + _BATCH]]


def _ahead(read: Callable[[Sequence[int]], Array], batches: Iterator[list[int]]) -> Iterator[tuple[list[int], Array]]:
    """Batches with their pixels, the next one read while this one is trained on."""
    with ThreadPoolExecutor(1) as reader:
        waiting = None
        for indices in batches:
            coming = (indices, reader.submit(read, indices))
            if waiting is not None:
                yield waiting[0], waiting[1].result()
            waiting = coming
        if waiting is not None:
            yield waiting[0], waiting[1].result()
