"""The plot of a GAN's training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.axes import Axes

from cosmop_console.report.plots import ACCENT, FAINT, THIRD, WARN, style, svg

#: So few points are marked: a line through them would be short, or none.
_FEW = 12
_ROOM = 1.08
#: What spans more is drawn on a logarithmic scale.
_DECADE = 10


def training(kimg: Sequence[float], values: Mapping[str, Sequence[float | None]], settings: Mapping[str, Any]) -> str:
    """The losses of both networks, the gradient penalty, and augmentation with what steers it (ADA, Karras et al., 2020, sec. 3.1).

    Args:
        kimg: thousands of real images shown.
        values: by name (``loss_g``, ``loss_d``, ``r1``, ``p``, ``sign``), None where nothing was measured.
        settings: the trainer's: ``ada_target``, the mean sign that p is steered to, and ``ada_cap``, which p does not exceed. Empty where unknown.
    """
    with style():
        figure, panels = plt.subplots(3, 1, figsize=(5.6, 5.2), sharex=True, height_ratios=(1.2, 0.9, 1.1))
        losses, penalty, augmentation = panels
        for axes, name, title, colour in (
            (losses, "loss_g", "generator", ACCENT),
            (losses, "loss_d", "discriminator", WARN),
            (penalty, "r1", "R1 penalty", THIRD),
            (augmentation, "p", "p, the probability of augmenting", ACCENT),
            (augmentation, "sign", "mean sign of D on real images", THIRD),
        ):
            _line(axes, kimg, values.get(name, ()), title, colour)
        penalties = [v for v in values.get("r1", ()) if v is not None]
        if penalties and 0 < min(penalties) * _DECADE < max(penalties):
            penalty.set_yscale("log")
        else:
            # A common factor of ten would stand above the axis, where the legend is.
            penalty.yaxis.set_major_formatter("{x:.3g}")
        # Without a target nothing is augmented, and p has no bound to come near.
        if settings.get("ada_target"):
            _level(augmentation, settings["ada_target"], "target of the sign", FAINT)
            _level(augmentation, settings.get("ada_cap"), "cap of p", WARN)
        augmentation.set_ylim(top=_ROOM)
        losses.set_ylabel("loss")
        augmentation.set_xlabel("thousands of real images shown (kimg)")
        for axes in panels:
            if axes.get_legend_handles_labels()[0]:
                axes.legend(fontsize=8, loc="lower left", bbox_to_anchor=(0, 0.98), ncols=2, borderaxespad=0)
        return svg(figure)


def _line(axes: Axes, kimg: Sequence[float], values: Sequence[float | None], title: str, colour: str) -> None:
    if any(v is not None for v in values):
        known = [float("nan") if v is None else v for v in values]
        axes.plot(kimg, known, color=colour, linewidth=1.3, marker="o" if len(kimg) <= _FEW else "", markersize=4, label=title)


def _level(axes: Axes, level: float | None, text: str, colour: str) -> None:
    if level is not None:
        axes.axhline(level, color=colour, linewidth=1, linestyle="--", label=f"{text}: {level:g}")
