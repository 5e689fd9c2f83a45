"""The jobs of a job process: thin. This is the one room of the service's entry that imports torch."""

from __future__ import annotations

import os

import torch
from cosmop_common.jobs import JobHandler
from cosmop_common.run_handle import RunHandle
from cosmop_common.store import Store

from cosmop_gan_trainer.errors import TrainerOptionError
from cosmop_gan_trainer.generating import generate
from cosmop_gan_trainer.settings import Settings
from cosmop_gan_trainer.team import Team
from cosmop_gan_trainer.training import TrainingRun


def choose_device(name: str) -> torch.device:
    """The device of a setting. Raises ``TrainerOptionError`` where there is no such device."""
    if name == "auto":
        # One GPU for each process of a machine (torchrun's LOCAL_RANK).
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0"))) if torch.cuda.is_available() else torch.device("cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise TrainerOptionError(f"COSMOP_GAN_DEVICE is {name!r}: use auto, cpu, cuda or cuda:<number>") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise TrainerOptionError(f"COSMOP_GAN_DEVICE is {name!r}, and torch sees no GPU: use auto or cpu")
    return device


def handlers(settings: Settings, store: Store, team: Team | None = None) -> dict[str, JobHandler]:
    """What this service does, by the name of the job's spec."""
    if settings.torch_threads:
        torch.set_num_threads(settings.torch_threads)
    device = choose_device(settings.gan_device)
    team = team or Team()

    async def train(run: RunHandle) -> None:
        await TrainingRun(run, store, device, team).execute()

    async def make(run: RunHandle) -> None:
        await generate(run, store, device)

    return {"train_gan": train, "generate": make}
