"""The curves of a fine-tuning: what each epoch measured, as JSON and as a plot. No torch, no plotting library."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from cosmop_human_detector.errors import TrainingDataError
from cosmop_human_detector.measures import auroc

_WIDTH, _HEIGHT, _MARGIN = 560, 240, 44
_COLOURS = {"train_loss": "#9aa5b1", "val_loss": "#0072b2", "val_auroc": "#d55e00"}
_TINY = 1e-7


@dataclass(frozen=True)
class Epoch:
    """One epoch."""

    #: Mean loss of the images that were trained on; None before the first epoch.
    train_loss: float | None
    #: Mean of the two kinds' mean losses on the validation images, in nats.
    val_loss: float
    val_auroc: float

    @classmethod
    def measure(cls, scores: NDArray[np.float64], people: NDArray[np.bool_], train_loss: float | None) -> Self:
        """From the scores of the validation images.

        Raises:
            TrainingDataError: they are not of both kinds.
        """
        area = auroc(scores, people).value
        if area is None:
            raise TrainingDataError(f"of {len(people)} validation images that decode {int(people.sum())} show people: add images, both kinds are needed")
        p = np.clip(scores, _TINY, 1 - _TINY)
        loss = (-np.log(p[people]).mean() - np.log(1 - p[~people]).mean()) / 2
        return cls(train_loss, float(loss), area)

    def as_dict(self) -> dict[str, Any]:
        """Its numbers by name."""
        return asdict(self)


def to_json(epochs: Sequence[Epoch]) -> bytes:
    """One list a curve; the first entry is the state before the first epoch."""
    return json.dumps({name: [e.as_dict()[name] for e in epochs] for name in _COLOURS}, indent=1).encode()


def to_svg(epochs: Sequence[Epoch]) -> bytes:
    """The curves over epochs. Losses are in nats on the left, the area under the ROC curve runs from 0.5 to 1 on the right."""
    losses = [v for e in epochs for v in (e.train_loss, e.val_loss) if v is not None]
    top = max([*losses, _TINY]) * 1.05
    last = max(1, len(epochs) - 1)

    def point(epoch: int, share: float) -> str:
        x = _MARGIN + (_WIDTH - 2 * _MARGIN) * epoch / last
        y = _HEIGHT - _MARGIN - (_HEIGHT - 2 * _MARGIN) * min(1.0, max(0.0, share))
        return f"{x:.1f},{y:.1f}"

    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" font-family="sans-serif" font-size="11" fill="#1f2933">']
    corners = [point(0, 1), point(0, 0), point(last, 0), point(last, 1)]
    parts.append(f'<polyline points="{" ".join(corners)}" fill="none" stroke="#9aa5b1"/>')
    for place, (name, colour) in enumerate(_COLOURS.items()):
        values = [(i, e.as_dict()[name]) for i, e in enumerate(epochs)]
        shares = [point(i, (v - 0.5) * 2 if name == "val_auroc" else v / top) for i, v in values if v is not None]
        parts.append(f'<polyline points="{" ".join(shares)}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts += ['<circle cx="{}" cy="{}" r="3" fill="{}"/>'.format(*s.split(","), colour) for s in shares]
        parts.append(f'<text x="{_MARGIN + 120 * place}" y="20" fill="{colour}">{name.replace("_", " ")}</text>')
    labels = [(4, _MARGIN, f"{top:.2g}"), (4, _HEIGHT - _MARGIN, "0"), (_WIDTH - 36, _MARGIN, "1.0"), (_WIDTH - 36, _HEIGHT - _MARGIN, "0.5")]
    labels += [(_WIDTH // 2 - 20, _HEIGHT - 12, "epoch"), (_MARGIN, _HEIGHT - 26, "0"), (_WIDTH - _MARGIN - 8, _HEIGHT - 26, str(len(epochs) - 1))]
    parts += [f'<text x="{x}" y="{y}">{text}</text>' for x, y, text in labels]
    return "\n".join([*parts, "</svg>", ""]).encode()
