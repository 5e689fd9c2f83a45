"""Fine-tuning on a toy network: it learns, it keeps the best, and an interruption changes nothing."""

from __future__ import annotations

import time

import numpy as np
import pytest
import torch
from cosmop_classifier.finetune import Hooks, Images, Recipe, Tuned, fine_tune
from cosmop_classifier.heads import LinearHead

RNG = np.random.default_rng(0)
TRUTH = np.arange(100) % 3 == 0
PIXELS = RNG.standard_normal((100, 3, 16, 16)).astype(np.float32)
PIXELS[TRUTH] += RNG.standard_normal((1, 3, 16, 16)).astype(np.float32)


class Toy(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.convolution = torch.nn.Conv2d(3, 8, 4, 4)
        self.normalise = torch.nn.BatchNorm2d(8)

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        feature_map = torch.relu(self.normalise(self.convolution(images)))
        return feature_map.mean((2, 3)), feature_map


def images(part: slice, truth: np.ndarray = TRUTH) -> Images:
    return Images([str(i) for i in range(100)[part]], truth[part], lambda indices: PIXELS[part][list(indices)])


def train(recipe: Recipe, truth: np.ndarray = TRUTH, **more) -> Tuned:
    return fine_tune(Toy(), LinearHead(np.zeros(8, np.float32), 0.0), images(slice(0, 70), truth), images(slice(70, 100)), recipe, **more)


def weights(tuned: Tuned) -> list[np.ndarray]:
    return [p.detach().numpy() for p in tuned.network.parameters()] + [tuned.head.weight]


def test_it_learns_and_never_touches_the_statistics_of_normalisation() -> None:
    tuned = train(Recipe(4, augmented=False))
    assert tuned.losses[0] == pytest.approx(np.log(2))
    assert tuned.losses[tuned.best_epoch] < tuned.losses[0]
    assert torch.equal(tuned.network.normalise.running_mean, torch.zeros(8))


def test_an_interrupted_training_ends_with_the_same_weights() -> None:
    kept: list[bytes] = []
    whole = train(Recipe(4), hooks=Hooks(save=kept.append))
    resumed = train(Recipe(4), checkpoint=kept[1])
    assert resumed.losses == whole.losses
    for a, b in zip(weights(whole), weights(resumed), strict=True):
        np.testing.assert_array_equal(a, b)


def test_what_does_not_help_is_not_kept() -> None:
    """Trained on swapped labels, every epoch is worse on the validation images: the frozen network stays, and it stops early."""
    tuned = train(Recipe(20, augmented=False), truth=~TRUTH)
    assert tuned.best_epoch == 0
    assert len(tuned.losses) == 1 + 3
    for a, b in zip(weights(tuned)[:-1], Toy().parameters(), strict=True):
        np.testing.assert_array_equal(a, b.detach().numpy())


def test_the_deadline_ends_it() -> None:
    assert len(train(Recipe(50, deadline=time.monotonic())).losses) == 1


def test_a_word_to_stop_is_heard_within_an_epoch() -> None:
    def stop() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(Recipe(50), hooks=Hooks(check=stop))


def test_mixed_precision_learns_as_well() -> None:
    half, whole = train(Recipe(4, augmented=False, half=True)), train(Recipe(4, augmented=False))
    assert half.losses != whole.losses
    assert half.losses[half.best_epoch] == pytest.approx(whole.losses[whole.best_epoch], abs=0.05)
    assert all(p.dtype == torch.float32 for p in half.network.parameters())
