"""Compiled phases train as eager ones do; those that are differentiated twice stay eager."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from cosmop_gan_trainer.data import Images, TrainingSet
from cosmop_gan_trainer.presets import configure
from cosmop_gan_trainer.trainer import Trainer

CPU = torch.device("cpu")
SMALL = {
    "batch": "4", "z_dim": "8", "w_dim": "8", "channel_base": "64", "channel_max": "8", "path_length_interval": "2", "r1_interval": "2", "ada_target": "0",
}  # fmt: skip


def trained(**options: str) -> tuple[dict[str, torch.Tensor], dict[str, float]]:
    """Weights and what was measured after three steps, two of them with regularisation, some images augmented."""
    run = configure("auto", 16, seed=1, options=SMALL | options)
    rng = np.random.default_rng(0)
    images = Images(16, [rng.integers(0, 256, (16, 16, 3), dtype=np.uint8) for _ in range(9)], [0] * 9)
    trainer = Trainer(run, TrainingSet.build(images, run, CPU), CPU)
    trainer.controller.p = trainer.augment.p = 0.5
    for _ in range(3):
        trainer.step()
    return trainer.state()[0], dict(trainer.stats)


def test_compiled_phases_train_as_eager_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the compiler's own capture and differentiation, without its code generation, which takes minutes."""
    captured: list[Any] = []
    compiler = torch.compile

    def capture(network: Any, **options: Any) -> Any:
        captured.append(network)
        assert options["fullgraph"]  # so a construct that it cannot capture is an error, not a slow detour
        return compiler(network, backend="aot_eager", **options)

    monkeypatch.setattr(torch, "compile", capture)
    weights, stats = trained()
    compiled, compiled_stats = trained(compile="true")
    assert len(captured) == 2
    assert compiled.keys() == weights.keys()  # a checkpoint does not know how it was computed
    for name, value in weights.items():
        torch.testing.assert_close(compiled[name], value, rtol=1e-3, atol=1e-4, msg=lambda text, name=name: f"{name}: {text}")
    assert compiled_stats == pytest.approx(stats, rel=1e-3, abs=1e-5)


def test_without_the_option_nothing_is_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "compile", lambda *_, **__: pytest.fail("compiled unasked"))
    trained()
