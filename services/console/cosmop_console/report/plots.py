"""The plots of a report, as SVG text that stands in the page itself."""

from __future__ import annotations

import io
from typing import Any

import matplotlib as mpl

mpl.use("svg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

#: Ink, one accent, one warning: the colours of the page, legible in print and to the colour-blind (Okabe and Ito, 2008).
INK, ACCENT, WARN, FAINT = "#1f2933", "#0072b2", "#d55e00", "#9aa5b1"

_STYLE: Any = {
    "font.family": "sans-serif", "font.size": 9, "axes.edgecolor": FAINT, "axes.labelcolor": INK, "xtick.color": INK, "ytick.color": INK,
    "axes.spines.top": False, "axes.spines.right": False, "svg.fonttype": "none", "figure.constrained_layout.use": True,
}  # fmt: skip


def _svg(figure: Figure) -> str:
    sink = io.StringIO()
    figure.savefig(sink, format="svg", transparent=True)
    plt.close(figure)
    return sink.getvalue()[sink.getvalue().index("<svg") :]


def _axes(width: float, height: float) -> tuple[Figure, Axes]:
    figure, axes = plt.subplots(figsize=(width, height))
    return figure, axes


def curve(kimg: list[float], values: list[float], intervals: list[tuple[float, float] | None], *, metric: str, best: float | None) -> str:
    """The measure over kimg, with intervals where they are known; the best snapshot marked."""
    with mpl.rc_context(_STYLE):
        figure, axes = _axes(5.6, 2.6)
        axes.plot(kimg, values, color=ACCENT, marker="o", markersize=4, linewidth=1.5)
        for x, y, interval in zip(kimg, values, intervals, strict=True):
            if interval:
                axes.plot([x, x], list(interval), color=ACCENT, linewidth=1, alpha=0.6)
            axes.annotate(f"{y:.1f}", (x, y), textcoords="offset points", xytext=(0, 7), ha="center", fontsize=8)
        if best in kimg:
            axes.plot([best], [values[kimg.index(best)]], marker="o", markersize=11, markerfacecolor="none", markeredgecolor=WARN)
        axes.set_xlabel("thousands of real images shown (kimg)")
        axes.set_ylabel(metric)
        axes.margins(x=0.08, y=0.25)
        return _svg(figure)


def histogram(probabilities: list[float], threshold: float) -> str:
    """How sure the classifier is of the synthetic images, with its threshold."""
    with mpl.rc_context(_STYLE):
        figure, axes = _axes(5.6, 2.2)
        counts, edges, bars = axes.hist(probabilities, bins=20, range=(0, 1), color=ACCENT)
        for bar, left in zip(list(bars), edges, strict=False):  # type: ignore[arg-type]
            if left + 0.025 < threshold:
                bar.set_facecolor(FAINT)
        axes.axvline(threshold, color=WARN, linewidth=1.2)
        axes.annotate("threshold", (threshold, max(counts)), textcoords="offset points", xytext=(4, -2), color=WARN, fontsize=8)
        axes.set_xlabel("calibrated probability of the positive class")
        axes.set_ylabel("images")
        return _svg(figure)
