"""Augmentation at its cap does not leak: a generator whose discriminator sees turned and tinted images draws neither (ADA, sec. 2.2)."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from cosmop_gan_trainer.data import Images, TrainingSet
from cosmop_gan_trainer.presets import configure
from cosmop_gan_trainer.snapshots import draw
from cosmop_gan_trainer.trainer import Trainer

SKY, SEA = np.array([220, 120, 60]), np.array([30, 60, 140])
STEPS = 240
OPTIONS = {
    "precision": "fp32", "batch": "16", "z_dim": "16", "w_dim": "16", "channel_base": "256", "channel_max": "32", "learning_rate": "0.005", "r1_gamma": "0.3",
    "ema_kimg": "1", "path_length_weight": "0", "style_mixing": "0", "ada_target": "0",
}  # fmt: skip


def sunset(rng: np.random.Generator) -> np.ndarray:
    """Orange above blue, the horizon somewhere in the middle."""
    image = np.empty((16, 16, 3))
    horizon = rng.integers(6, 11)
    image[:horizon] = SKY + rng.normal(0, 15, 3)
    image[horizon:] = SEA + rng.normal(0, 15, 3)
    return image.clip(0, 255).astype(np.uint8)


def test_at_the_cap_samples_are_neither_turned_nor_tinted() -> None:
    cpu, rng = torch.device("cpu"), np.random.default_rng(0)
    run = configure("auto", 16, options=OPTIONS)
    trainer = Trainer(run, TrainingSet.build(Images(16, [sunset(rng) for _ in range(200)], [0] * 200), run, cpu), cpu)
    assert run.train.ada_cap == 0.8
    trainer.controller.p = trainer.augment.p = run.train.ada_cap
    for _ in range(STEPS):
        trainer.step()
    assert trainer.augment.p == 0.8, "no target: p stays where it is"
    samples = draw(trainer.average, range(256)).astype(float)
    above, below = samples[:, :5].mean((1, 2)), samples[:, 11:].mean((1, 2))
    # Of what the discriminator was shown, less than a half was upright.
    upright = (above[:, 0] > above[:, 2] + 30) & (below[:, 2] > below[:, 0] + 30)
    assert upright.mean() > 0.85
    assert above.mean(0) == pytest.approx(SKY, abs=40)
    assert below.mean(0) == pytest.approx(SEA, abs=40)
