"""Named set-ups, and the options that override them. No torch in here.

The paper set-ups are those of ADA, app. C (table of hyperparameters); ``auto`` is its heuristic for any resolution;
``tiny`` is ours, made to show a falling FID within minutes on two CPU cores.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ValidationError

from cosmop_gan_trainer.config import NetworkConfig, RunConfig, TrainConfig, WatchConfig
from cosmop_gan_trainer.errors import TrainerOptionError

RESOLUTIONS = (16, 32, 64, 128, 256, 512, 1024)
_SECTIONS: tuple[type[BaseModel], ...] = (NetworkConfig, TrainConfig, WatchConfig)
#: What the job says itself, or what follows from the data.
_NOT_OPTIONS = {"resolution", "classes", "seed"}


def _paper(batch: int, group: int, channels: int, rate: float, gamma: float, ema: float, mapping: int) -> dict[str, Any]:
    return {
        "batch": batch,
        "minibatch_group": group,
        "channel_base": channels,
        "learning_rate": rate,
        "r1_gamma": gamma,
        "ema_kimg": ema,
        "mapping_layers": mapping,
        "precision": "auto",
    }


#: ADA, app. C. Columns: batch, minibatch group, channel base, learning rate, R1 gamma, EMA kimg, mapping layers.
_FIXED: dict[str, dict[str, Any]] = {
    "stylegan2": _paper(32, 4, 32768, 0.002, 10, 10, 8),
    "paper256": _paper(64, 8, 16384, 0.0025, 1, 20, 8),
    "paper512": _paper(64, 8, 32768, 0.0025, 0.5, 20, 8),
    "paper1024": _paper(32, 4, 32768, 0.002, 2, 10, 8),
    "cifar": _paper(64, 32, 32768, 0.0025, 0.01, 500, 2) | {"path_length_weight": 0, "style_mixing": 0},
}


def auto(resolution: int, processes: int = 1) -> dict[str, Any]:
    """ADA's heuristic (app. C): batch for the memory of a GPU, and R1 by resolution and batch."""
    batch = max(min(processes * min(4096 // resolution, 32), 64), processes)
    return {
        "batch": batch,
        "minibatch_group": max(1, min(batch // processes, 4)),
        "channel_base": 32768 if resolution >= 512 else 16384,  # noqa: PLR2004 - the heuristic's own bound
        "learning_rate": 0.002 if resolution >= 1024 else 0.0025,  # noqa: PLR2004
        "r1_gamma": 0.0002 * resolution**2 / batch,
        "ema_kimg": batch * 10 / 32,
        "ema_ramp": 0.05,
        "mapping_layers": 2,
        "precision": "auto",
    }


def tiny(resolution: int) -> dict[str, Any]:
    """Ours: a small network for minutes on two cores.

    Against ``auto``: a sixteenth of the feature maps and a quarter of the latent, no path length regularisation (it
    smooths late training, at a quarter more time), p five times as fast since runs are short. Batches of 8: with so few
    images to show, steps count; on photos, 0.4 kimg in eights looked like 1.3 kimg in batches of 32. Twice the rate, four
    times the R1 and a shorter average: after 4 kimg of photos these samples had shapes where the heuristic's had texture.
    In fp32: with so few channels, bf16 was measured slower on CPU.
    """
    return auto(resolution) | {
        "batch": 8,
        "z_dim": 128,
        "w_dim": 128,
        "channel_base": 1024,
        "channel_max": 128,
        "learning_rate": 0.005,
        "r1_gamma": 0.0008 * resolution**2 / 8,
        "ema_kimg": 1.0,
        "path_length_weight": 0,
        "ada_kimg": 100,
        "precision": "fp32",
        "mirror": True,
    }


PRESETS = ("tiny", "auto", *_FIXED)


def configure(preset: str, resolution: int, seed: int = 0, options: Mapping[str, str] | None = None, processes: int = 1) -> RunConfig:
    """A preset at a resolution, with options by name on top.

    Args:
        options: names of ``NetworkConfig``, ``TrainConfig`` and ``WatchConfig`` fields, values as text.
        processes: that share the training; ``auto`` gives each its part of the batch.

    Raises:
        TrainerOptionError: an unknown preset, resolution or option, or a value that an option cannot have.
    """
    if resolution not in RESOLUTIONS:
        raise TrainerOptionError(f"resolution {resolution}: must be one of {', '.join(map(str, RESOLUTIONS))}")
    if preset == "auto":
        values = auto(resolution, processes)
    elif preset == "tiny":
        values = tiny(resolution)
    elif preset in _FIXED:
        values = dict(_FIXED[preset])
    else:
        raise TrainerOptionError(f"preset {preset!r} is not known: choose one of {', '.join(PRESETS)}")
    known = {name for section in _SECTIONS for name in section.model_fields} - _NOT_OPTIONS
    if unknown := sorted(set(options or {}) - known):
        raise TrainerOptionError(f"option {', '.join(unknown)} is not known: options are {', '.join(sorted(known))}")
    values |= {"resolution": resolution, "seed": seed} | dict(options or {})
    try:
        network, train, watch = (s.model_validate({k: v for k, v in values.items() if k in s.model_fields}) for s in _SECTIONS)
    except ValidationError as error:
        raise TrainerOptionError("; ".join(f"option {e['loc'][0]}={e['input']!r}: {e['msg']}" for e in error.errors())) from error
    assert isinstance(network, NetworkConfig)
    assert isinstance(train, TrainConfig)
    assert isinstance(watch, WatchConfig)
    if train.batch % network.minibatch_group:
        raise TrainerOptionError(f"batch {train.batch} is no multiple of minibatch_group {network.minibatch_group}: choose one that is")
    return RunConfig(preset=preset, network=network, train=train, watch=watch)
