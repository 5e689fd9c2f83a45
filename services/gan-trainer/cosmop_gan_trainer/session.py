"""One run's training, from event to event: train until a snapshot, a checkpoint or an interruption is due. No store, no NATS in here."""

from __future__ import annotations

import enum
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import safetensors
import safetensors.torch
import torch
from numpy.typing import NDArray

from cosmop_gan_trainer import snapshots
from cosmop_gan_trainer.config import RunConfig
from cosmop_gan_trainer.curves import Curves
from cosmop_gan_trainer.data import TrainingSet
from cosmop_gan_trainer.errors import DamagedCheckpointError
from cosmop_gan_trainer.guard import Guard
from cosmop_gan_trainer.schedule import Schedule
from cosmop_gan_trainer.team import Team
from cosmop_gan_trainer.trainer import Trainer

_BATCH = 64
_FINITE_INTERVAL = 64
"""Steps between looks at whether all weights are still numbers."""


class Due(enum.Enum):
    """Why training paused."""

    SNAPSHOT = enum.auto()
    CHECKPOINT = enum.auto()
    INTERRUPTED = enum.auto()
    COLLAPSED = enum.auto()
    """``Session.ended`` says how."""


@dataclass(frozen=True)
class Drawn:
    """What a snapshot consists of, as bytes."""

    kimg: float
    weights: bytes
    grid: bytes
    samples: list[tuple[str, bytes]]
    stats: dict[str, float]


@dataclass
class Session:
    """A trainer with its schedule and its clock.

    Attributes:
        taken: kimg of each snapshot, in order; its last may not be stored yet when a run resumes.
        ended: why training is over; empty while it goes on.
        seconds_before: training time of earlier attempts.
    """

    trainer: Trainer
    schedule: Schedule
    config: RunConfig
    taken: list[float] = field(default_factory=list)
    ended: str = ""
    seconds_before: float = 0.0
    started: float = field(default_factory=time.monotonic)
    _checkpointed: float = field(default_factory=time.monotonic)
    guard: Guard = field(init=False)
    #: Seconds per thousand images, smoothed.
    speed: float = 0.0
    curves: Curves = field(default_factory=Curves)

    def __post_init__(self) -> None:
        self.guard = Guard(self.config.train, self.config.watch.guard_kimg)

    @classmethod
    def start(cls, config: RunConfig, data: TrainingSet, schedule: Schedule, device: torch.device, team: Team | None = None) -> Session:
        """A run at its beginning, here and in the other processes of the team."""
        team = team or Team()
        session = cls(Trainer(config, data, device, team), schedule, config)
        if team.size > 1:
            team.say("open", safetensors.torch.save(data.as_tensors(), metadata={"config": config.model_dump_json()}))
        return session

    @property
    def seconds(self) -> float:
        """Wall-clock time spent, earlier attempts included."""
        return self.seconds_before + time.monotonic() - self.started

    @property
    def progress(self) -> float:
        """How far training is, 0 to 1."""
        return min(1.0, self.schedule.share(self.trainer.kimg, self.seconds))

    def advance(self, interrupted: Callable[[], bool], report: Callable[[Session], None]) -> Due:
        """Trains until something is due. ``interrupted`` is asked, and ``report`` called, after each step."""
        c = self.config.watch
        while True:
            if not self.trainer.steps and not self.taken and c.initial_snapshot:
                return Due.SNAPSHOT
            if interrupted():
                return Due.INTERRUPTED
            begun = time.monotonic()
            self.trainer.step()
            now = time.monotonic()
            per_kimg = (now - begun) / self.config.train.batch * 1000
            self.speed = per_kimg if not self.speed else 0.9 * self.speed + 0.1 * per_kimg
            self.curves.see(self.trainer.kimg, self.trainer.stats | {"seconds_per_kimg": per_kimg})
            report(self)
            due = self.schedule.due(self.trainer.kimg, self.seconds, self._numbered)
            if (due or self.trainer.steps % _FINITE_INTERVAL == 0) and not self.trainer.finite():
                self.ended = f"collapse: a weight is not finite at {self.trainer.kimg:g} kimg"
                return Due.COLLAPSED
            controller = self.trainer.controller
            if helpless := self.guard.see(self.trainer.kimg, controller.p, controller.sign):
                self.ended = helpless
                return Due.COLLAPSED
            if due:
                return Due.SNAPSHOT
            if now - self._checkpointed >= c.checkpoint_seconds:
                return Due.CHECKPOINT

    def take(self) -> None:
        """Notes a snapshot at this point, before it is stored, and whether it ends the run."""
        self.taken.append(self.trainer.kimg)
        self.ended = self.schedule.ended(self.trainer.kimg, self.seconds, self._numbered) if self.trainer.steps else ""

    def draw(self, samples: int) -> Drawn:
        """The snapshot at this point. Leaves training untouched: samples have generators of their own."""
        begun = time.monotonic()
        average = self.trainer.average
        half, average.synthesis.half_precision = average.synthesis.half_precision, None
        seeds = range(max(samples, 1))
        parts: list[NDArray[np.uint8]] = [snapshots.draw(average, seeds[k : k + _BATCH]) for k in range(0, len(seeds), _BATCH)]
        average.synthesis.half_precision = half
        images = np.concatenate(parts)
        stats = {k: float(v) for k, v in self.trainer.stats.items()} | {"seconds_per_kimg": self.speed}
        drawn = Drawn(
            kimg=self.trainer.kimg,
            weights=snapshots.save_generator(average),
            grid=snapshots.grid(images),
            samples=[(f"{seed:09d}.png", snapshots.png(image)) for seed, image in zip(seeds, images, strict=True)],
            stats=stats,
        )
        self.schedule.reserve = time.monotonic() - begun
        return drawn

    @property
    def _numbered(self) -> int:
        """Snapshots taken after the start."""
        return sum(k > 0 for k in self.taken)

    def save(self) -> bytes:
        """The whole state as safetensors, its numbers as JSON in the header."""
        tensors, numbers = self.trainer.state()
        state = {"trainer": numbers, "taken": self.taken, "ended": self.ended, "seconds": self.seconds, "config": self.config.model_dump(mode="json")}
        state |= {"reserve": self.schedule.reserve, "since": self.guard.since, "speed": self.speed, "curves": self.curves.state()}
        self._checkpointed = time.monotonic()
        return safetensors.torch.save({k: v.cpu() for k, v in tensors.items()}, metadata={"state": json.dumps(state)})

    def load(self, data: bytes) -> None:
        """Goes on from a saved state, to the bit.

        Raises:
            DamagedCheckpointError: the bytes are no state of this run's networks.
        """
        try:
            state = read_state(data)
            tensors = safetensors.torch.load(data)
            _same_run(RunConfig.model_validate(state["config"]), self.config)
            self.trainer.restore(tensors, state["trainer"])
            self.trainer.team.say("load", data)
        except (ValueError, KeyError, TypeError, RuntimeError, safetensors.SafetensorError) as error:
            raise DamagedCheckpointError(f"the checkpoint does not fit this run ({error}): start a new run for new settings") from error
        self.taken, self.ended = [float(k) for k in state["taken"]], str(state["ended"])
        self.seconds_before = float(state["seconds"])
        self.schedule.reserve, self.speed = float(state["reserve"]), float(state["speed"])
        self.guard.since = state["since"]
        self.curves = Curves.restore(state["curves"])


def read_state(data: bytes) -> dict[str, Any]:
    """The numbers in a saved state's header."""
    length = int.from_bytes(data[:8], "little")
    state: dict[str, Any] = json.loads(json.loads(data[8 : 8 + length])["__metadata__"]["state"])
    return state


def _same_run(saved: RunConfig, now: RunConfig) -> None:
    """How a run is watched may change on resume; what it trains may not."""
    if (saved.network, saved.train) != (now.network, now.train):
        raise ValueError("it was made with other settings")
