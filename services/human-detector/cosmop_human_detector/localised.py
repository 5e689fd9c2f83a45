"""Fitting a head that is told where people are: cells, windows and composites together. Needs torch.

Of an image with people, the cells inside a person's box are people and the cells outside are not; of an image without, no cell is.
Together with the image's own label, through the soft maximum over windows, and with composites (``composites``), this keeps a head from
learning the scene instead of the human. The boxes are a teacher's (``nanodet``), so that no one has to draw them; a box that the teacher
is unsure of says nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from cosmop_human_detector.fitting import balance
from cosmop_human_detector.heads import Head, HeadShape
from cosmop_human_detector.nanodet import PersonBox

#: The teacher's score from which a box is a person, and from which its cells are at least in doubt.
SURE, DOUBT = 0.4, 0.1
#: Boxes are that much larger for doubt: a cell at the rim sees the person too. Share of the image.
_RIM = 0.03
#: Principal components of the cells that the head may use: the rest is noise at this number of photos.
_COMPONENTS = 320
_STEPS = 150
_LEARNING_RATE = 5e-3
_DECAY = 0.1
#: Weights of the composites' and of the cells' loss against the photos' own.
_COMPOSITES, _CELLS = 0.5, 1.0


@dataclass(frozen=True)
class Cells:
    """Images as feature maps, with what is known of each cell."""

    #: N x cells x C, row by row.
    maps: NDArray[np.float16]
    people: NDArray[np.bool_]
    sources: NDArray[np.str_]
    #: N x cells: 1 a person, 0 none, -1 unknown.
    targets: NDArray[np.int8]

    def take(self, chosen: NDArray[np.bool_]) -> Cells:
        """Some of them."""
        return Cells(self.maps[chosen], self.people[chosen], self.sources[chosen], self.targets[chosen])


@dataclass(frozen=True)
class Basis:
    """Standardised principal components of cells; a projection that is folded into the head afterwards."""

    mean: NDArray[np.float32]
    #: C x components.
    axes: NDArray[np.float32]

    @classmethod
    def of(cls, maps: NDArray[np.float16], every: int = 5) -> Basis:
        """The components of every fifth cell."""
        cells = maps.reshape(-1, maps.shape[-1])[::every].astype(np.float32)
        mean, deviation = cells.mean(0), cells.std(0) + 1e-3
        cells = (cells - mean) / deviation
        _, axes = np.linalg.eigh(cells.T @ cells / len(cells))
        return cls(mean, (axes[:, ::-1][:, :_COMPONENTS] / deviation[:, None]).astype(np.float32))

    def project(self, maps: NDArray[np.float16], at_once: int = 64) -> torch.Tensor:
        """N x cells x components."""
        parts = [(maps[i : i + at_once].astype(np.float32) - self.mean) @ self.axes for i in range(0, len(maps), at_once)]
        return torch.from_numpy(np.concatenate(parts))


def fit(photos: Cells, composites: Cells, basis: Basis, shape: HeadShape) -> Head:
    """The head; the same images give the same one, up to the order of floating-point sums."""
    sets = [(_Tensors(photos, basis), 1.0), (_Tensors(composites, basis), _COMPOSITES)]
    weight = torch.zeros(basis.axes.shape[1], requires_grad=True)
    bias = torch.zeros(1, requires_grad=True)
    optimiser = torch.optim.Adam([weight, bias], lr=_LEARNING_RATE)
    for _ in range(_STEPS):
        loss = _DECAY * weight.square().sum()
        for tensors, share in sets:
            loss = loss + share * tensors.loss(weight, bias, shape)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    folded = (basis.axes @ weight.detach().numpy()).astype(np.float32)
    return Head(shape, folded, float(bias.item()) - float(folded @ basis.mean))


def pooled(cells: torch.Tensor, shape: HeadShape) -> torch.Tensor:
    """Logits of N x cells as logits of N images: means over windows, soft maximum over those (``heads``)."""
    side = round(cells.shape[1] ** 0.5)
    windows = functional.avg_pool2d(cells.view(-1, 1, side, side), shape.window, shape.step).flatten(1)
    joined: torch.Tensor = shape.tau * (torch.logsumexp(windows / shape.tau, 1) - math.log(windows.shape[1]))
    return joined


def targets(boxes: Sequence[PersonBox], side: int) -> NDArray[np.int8]:
    """What a teacher's boxes say of each cell of a side x side map: ``side * side`` of 1, 0 or -1."""
    centres = (np.arange(side) + 0.5) / side
    known = np.zeros((side, side), np.int8)
    for box in sorted(boxes, key=lambda b: b.score):
        rim = _inside(box, centres, _RIM)
        known[rim & (known == 0)] = -1
        if box.score >= SURE:
            core = _inside(box, centres, 0)
            # A person smaller than a cell is in the cell nearest to it.
            known[core if core.any() else rim] = 1
    return known.reshape(-1)


class _Tensors:
    """A set of images for the loss."""

    def __init__(self, cells: Cells, basis: Basis) -> None:
        self.features = basis.project(cells.maps)
        self.people = torch.from_numpy(cells.people.astype(np.float32))
        self.shares = torch.from_numpy(balance(cells.people, cells.sources))
        known = torch.from_numpy(cells.targets)
        self.inside, outside = (known == 1).float(), (known == 0).float()
        share = self.shares[:, None]
        # Each image's people weigh as much as the image, however many cells they fill; the scene around them half of it.
        inner = self.inside / self.inside.sum(1, keepdim=True).clamp(min=1) * share
        outer = outside / outside.sum(1, keepdim=True).clamp(min=1) * share * (1 - 0.5 * self.people[:, None])
        self.cell_shares = inner + outer

    def loss(self, weight: torch.Tensor, bias: torch.Tensor, shape: HeadShape) -> torch.Tensor:
        """Cross-entropy of images and of cells."""
        cells = self.features @ weight + bias
        of_images = functional.binary_cross_entropy_with_logits(pooled(cells, shape), self.people, self.shares, reduction="sum")
        of_cells = functional.binary_cross_entropy_with_logits(cells, self.inside, self.cell_shares, reduction="sum")
        return of_images + _CELLS * of_cells


def _inside(box: PersonBox, centres: NDArray[np.float64], rim: float) -> NDArray[np.bool_]:
    rows = (centres >= box.top - rim) & (centres <= box.bottom + rim)
    columns = (centres >= box.left - rim) & (centres <= box.right + rim)
    inside: NDArray[np.bool_] = rows[:, None] & columns[None, :]
    return inside
