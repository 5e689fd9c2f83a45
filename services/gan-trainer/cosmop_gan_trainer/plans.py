"""What a job asks for, checked before anything is done. No torch in here: the servicer refuses with the same words."""

from __future__ import annotations

import math

from cosmop_common.datasets import split_reference
from cosmop_common.errors import InvalidInputError
from cosmop_common.pb.cosmop.v1 import runs_pb2

from cosmop_gan_trainer.config import RunConfig
from cosmop_gan_trainer.presets import configure
from cosmop_gan_trainer.schedule import Schedule


def plan(job: runs_pb2.TrainGanJob) -> tuple[RunConfig, Schedule]:
    """The settings of a training job and its schedule.

    Raises:
        InvalidInputError: no dataset version or folder, no images to show, a negative budget.
        TrainerOptionError: an unknown preset, resolution or option.
    """
    if not job.dataset.startswith("prefix:"):
        split_reference(job.dataset)
    if not math.isfinite(job.kimg) or job.kimg <= 0:
        raise InvalidInputError(f"kimg is {job.kimg}: say how many thousands of real images to show, more than 0")
    if not math.isfinite(job.max_seconds) or job.max_seconds < 0:
        raise InvalidInputError(f"max_seconds is {job.max_seconds}: 0 is no budget, more is one")
    config = configure(job.preset or "auto", job.resolution, job.seed, dict(job.options))
    return config, Schedule(job.kimg, max(1, job.snapshots), job.max_seconds)
