"""Fitting a head: logistic regression through the soft maximum over windows, classes and sources balanced. Needs torch."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from cosmop_human_detector.features import Examples
from cosmop_human_detector.heads import Head, HeadShape

_STEPS = 150
_LEARNING_RATE = 3e-3
#: Weight of the squared norm, per standardised feature.
_DECAY = 0.03


def fit(examples: Examples, shape: HeadShape) -> Head:
    """The head that parts images with people from those without.

    The features are standardised over all windows; the scale is folded into the head afterwards. Adam on the whole set at once,
    from zero: the same examples give the same head, up to the order of floating-point sums.
    """
    mean = examples.windows.mean((0, 1))
    deviation = examples.windows.std((0, 1)) + 1e-3
    features = torch.from_numpy((examples.windows - mean) / deviation)
    people = torch.from_numpy(examples.people.astype(np.float32))
    share = torch.from_numpy(balance(examples.people, examples.sources))
    weight = torch.zeros(features.shape[2], requires_grad=True)
    bias = torch.zeros(1, requires_grad=True)
    optimiser = torch.optim.Adam([weight, bias], lr=_LEARNING_RATE)
    count = torch.tensor(float(features.shape[1]))
    for _ in range(_STEPS):
        logits = shape.tau * (torch.logsumexp((features @ weight + bias) / shape.tau, 1) - torch.log(count))
        loss = functional.binary_cross_entropy_with_logits(logits, people, share, reduction="sum") + _DECAY * weight.square().sum()
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    folded = (weight.detach().numpy() / deviation).astype(np.float32)
    return Head(shape, folded, float(bias.item()) - float(folded @ mean))


def balance(people: NDArray[np.bool_], sources: NDArray[np.str_]) -> NDArray[np.float32]:
    """The weight of each example: both classes weigh a half, and within a class a source by the root of its size.

    The root lies between counting images (the largest source rules) and counting sources (a handful of images rules).
    """
    weights = np.zeros(len(people))
    for kind in (True, False):
        for source in np.unique(sources[people == kind]):
            group = (people == kind) & (sources == source)
            weights[group] = 1 / np.sqrt(group.sum())
        weights[people == kind] /= 2 * weights[people == kind].sum()
    return weights.astype(np.float32)
