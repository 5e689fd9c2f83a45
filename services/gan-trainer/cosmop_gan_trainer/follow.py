"""What the processes beside the leader do: make the same trainer, and step when it steps."""

from __future__ import annotations

import json

import safetensors.torch
import torch

from cosmop_gan_trainer.config import RunConfig
from cosmop_gan_trainer.data import Images, TrainingSet
from cosmop_gan_trainer.errors import TeamOrderError
from cosmop_gan_trainer.session import read_state
from cosmop_gan_trainer.team import Team
from cosmop_gan_trainer.trainer import Trainer


def follow(team: Team, device: torch.device) -> None:
    """Follows the leader until it quits: the images and settings of a run come from it, and nothing is written here."""
    trainer: Trainer | None = None
    while True:
        word, payload = team.hear()
        if word == "quit":
            return
        if word == "open":
            trainer = _open(payload, device, team)
            continue
        if trainer is None:
            raise TeamOrderError(f"the leader says {word!r} before it opened a run")
        if word == "load":
            trainer.restore(safetensors.torch.load(payload), read_state(payload)["trainer"])
        else:
            trainer.step()


def _open(payload: bytes, device: torch.device, team: Team) -> Trainer:
    tensors = safetensors.torch.load(payload)
    length = int.from_bytes(payload[:8], "little")
    config = RunConfig.model_validate_json(json.loads(payload[8 : 8 + length])["__metadata__"]["config"])
    pixels = list(tensors["pixels"].permute(0, 2, 3, 1).numpy())
    return Trainer(config, TrainingSet.build(Images(config.network.resolution, pixels, tensors["labels"].tolist()), config, device), device, team)
