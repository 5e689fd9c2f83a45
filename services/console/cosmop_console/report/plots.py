"""The plots of a report, as SVG text that stands in the page itself and takes the page's colours, dark or light."""

from __future__ import annotations

import io
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import matplotlib as mpl

mpl.use("svg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

Interval = tuple[float, float]

#: Ink, two accents, a third, one faint: distinct in print and to the colour-blind (Okabe and Ito, 2008).
INK, ACCENT, WARN, THIRD, FAINT = "#1f2933", "#0072b2", "#d55e00", "#009e73", "#9aa5b1"
COLOURS = (ACCENT, WARN, THIRD)
#: What stands for each in the page's style sheet, so that plots follow it into the dark.
_NAMES = {INK: "var(--ink)", ACCENT: "var(--accent)", WARN: "var(--warn)", THIRD: "var(--third)", FAINT: "var(--faint)"}
#: Likewise in the dark, in the same order.
_DARK = ("#e6eaee", "#58b4e8", "#f0935a", "#4ec9a0", "#9aa7b4")

#: Differences under this are drawn as small.
_LEAST_EDGE = 0.02
_STYLE: Any = {
    "font.family": "sans-serif", "font.size": 9, "axes.edgecolor": FAINT, "axes.labelcolor": INK, "xtick.color": INK, "ytick.color": INK, "text.color": INK,
    "axes.spines.top": False, "axes.spines.right": False, "svg.fonttype": "none", "figure.constrained_layout.use": True, "legend.frameon": False,
}  # fmt: skip
#: pyplot and its settings belong to the whole process: a page and a report may be drawn at once, each in a thread of its own.
_PYPLOT = threading.Lock()


@contextmanager
def style() -> Iterator[None]:
    """The look of all plots, for as long as one is drawn."""
    with _PYPLOT, mpl.rc_context(_STYLE):
        yield


def svg(figure: Figure) -> str:
    """The finished figure as an SVG element."""
    sink = io.StringIO()
    figure.savefig(sink, format="svg", transparent=True)
    plt.close(figure)
    text = sink.getvalue()[sink.getvalue().index("<svg") :]
    for colour, name in _NAMES.items():
        text = text.replace(colour, name)
    return text.replace("<svg ", '<svg role="img" ', 1)


def standalone(plot: str) -> str:
    """The same plot as a file of its own, with the colours that the page would have given it; light or dark as the reader's system."""

    def colours(values: Sequence[str]) -> str:
        return ":root { " + " ".join(f"{name[4:-1]}: {value};" for name, value in zip(_NAMES.values(), values, strict=True)) + " }"

    sheet = f"<style>{colours(list(_NAMES))} @media (prefers-color-scheme: dark) {{ {colours(_DARK)} }}</style>"
    end = plot.index(">") + 1
    return plot[:end] + sheet + plot[end:]


def _axes(width: float, height: float) -> tuple[Figure, Axes]:
    figure, axes = plt.subplots(figsize=(width, height))
    return figure, axes


def curve(kimg: list[float], values: list[float], intervals: list[Interval | None], *, metric: str, best: float | None) -> str:
    """The measure over kimg, with intervals where they are known; the best snapshot marked."""
    with style():
        figure, axes = _axes(5.6, 2.6)
        axes.plot(kimg, values, color=ACCENT, marker="o", markersize=4, linewidth=1.5)
        numbered = _apart(kimg, first=best)
        for x, y, interval in zip(kimg, values, intervals, strict=True):
            if interval:
                axes.plot([x, x], list(interval), color=ACCENT, linewidth=1, alpha=0.6)
            if x in numbered:
                axes.annotate(f"{y:.1f}", (x, y), textcoords="offset points", xytext=(0, 7), ha="center", fontsize=8)
        if best in kimg:
            axes.plot([best], [values[kimg.index(best)]], marker="o", markersize=11, markerfacecolor="none", markeredgecolor=WARN)
        axes.set_xlabel("thousands of real images shown (kimg)")
        axes.set_ylabel(metric)
        axes.margins(x=0.08, y=0.25)
        return svg(figure)


def _apart(positions: Sequence[float], *, first: float | None, share: float = 0.075) -> set[float]:
    """Those that leave room for a number: ``first``, the ends, then each that is far enough from all of them."""
    span = max(positions) - min(positions)
    chosen: set[float] = set()
    for x in [*(p for p in positions if p == first), positions[-1], *positions]:
        if all(abs(x - other) >= share * span for other in chosen if other != x):
            chosen.add(x)
    return chosen


def histogram(probabilities: list[float], threshold: float) -> str:
    """How sure the classifier is of the synthetic images, with its threshold."""
    with style():
        figure, axes = _axes(5.6, 2.2)
        counts, edges, bars = axes.hist(probabilities, bins=20, range=(0, 1), color=ACCENT)
        for bar, left in zip(list(bars), edges, strict=False):  # type: ignore[arg-type]
            if left + 0.025 < threshold:
                bar.set_facecolor(FAINT)
        axes.axvline(threshold, color=WARN, linewidth=1.2)
        right = threshold < 0.75  # noqa: PLR2004 - or the word would leave the plot
        axes.annotate(
            "threshold", (threshold, max(counts)), textcoords="offset points", xytext=(4 if right else -4, -2), color=WARN, fontsize=8,
            ha="left" if right else "right",
        )  # fmt: skip
        axes.set_xlim(0, 1)
        axes.set_xlabel("calibrated probability of the positive class")
        axes.set_ylabel("synthetic images")
        return svg(figure)


def measures(ours: Mapping[str, Mapping[str, tuple[float, Interval | None]]], paper: Mapping[str, Mapping[str, float]], names: Sequence[str]) -> str:
    """Each classifier's measures with their intervals, and the paper's as open marks: its Figure 6.

    Args:
        ours: by classifier, then by measure: value and interval.
        paper: likewise, values alone.
        names: measures, in order.
    """
    with style():
        figure, axes = _axes(5.6, 2.5)
        width = 0.8 / max(1, len(ours))
        for place, (classifier, values) in enumerate(ours.items()):
            colour = COLOURS[place % len(COLOURS)]
            for at, name in enumerate(names):
                x = at + (place - (len(ours) - 1) / 2) * width
                if name in values:
                    value, interval = values[name]
                    axes.bar(x, value, width * 0.9, color=colour, alpha=0.85, label=classifier if at == 0 else None)
                    if interval:
                        axes.plot([x, x], list(interval), color=INK, linewidth=1)
                if name in paper.get(classifier, {}):
                    axes.plot(x, paper[classifier][name], marker="D", markersize=6, markerfacecolor="none", markeredgecolor=INK, linestyle="none")
        axes.plot([], [], marker="D", markersize=6, markerfacecolor="none", markeredgecolor=INK, linestyle="none", label="the paper, on its own data")
        axes.set_xticks(range(len(names)), [name.upper() if name in {"f1", "auroc"} else name for name in names])
        axes.set_ylim(0, 1.02)
        figure.legend(loc="outside upper center", ncols=4, fontsize=8)
        return svg(figure)


def precision_recall(curves: Mapping[str, Sequence[tuple[float, float]]], at: Mapping[str, tuple[float, float]], base: float) -> str:
    """Precision over recall of each classifier on the test split.

    Args:
        curves: (recall, precision) points by classifier.
        at: the point of the threshold in use.
        base: the share of positives: what guessing reaches.
    """
    with style():
        figure, axes = _axes(3.7, 3.0)
        for place, (name, points) in enumerate(curves.items()):
            colour = COLOURS[place % len(COLOURS)]
            axes.step([r for r, _ in points], [p for _, p in points], where="post", color=colour, linewidth=1.4, label=name)
            if name in at:
                axes.plot(*at[name], marker="o", markersize=6, color=colour, linestyle="none")
        axes.axhline(base, color=FAINT, linewidth=1, linestyle=":")
        axes.annotate("guessing", (0, base), textcoords="offset points", xytext=(2, 3), fontsize=8, color=FAINT)
        axes.set(xlim=(0, 1.02), ylim=(0, 1.02), xlabel="recall", ylabel="precision")
        axes.legend(fontsize=8, loc="lower left")
        return svg(figure)


def reliability(bins: Sequence[tuple[float, float, Interval | None, int]]) -> str:
    """The share of positives over the probability that was said; on the diagonal, probabilities mean what they say.

    Args:
        bins: mean probability, share of positives, its interval, images.
    """
    with style():
        figure, axes = _axes(3.4, 3.0)
        axes.plot([0, 1], [0, 1], color=FAINT, linewidth=1, linestyle=":")
        most = max((n for *_, n in bins), default=1)
        for said, seen, interval, n in bins:
            if interval:
                axes.plot([said, said], list(interval), color=ACCENT, linewidth=1, alpha=0.6)
            axes.plot(said, seen, marker="o", markersize=3 + 6 * (n / most) ** 0.5, color=ACCENT, linestyle="none")
        axes.set(xlim=(-0.03, 1.03), ylim=(-0.03, 1.03), xlabel="probability that was said", ylabel="share that was positive")
        return svg(figure)


def differences(points: Sequence[tuple[str, float, Interval | None]], *, measure: str) -> str:
    """What each condition changes against real images alone.

    Training on synthetic images alone can change so much that nothing else could be read: what lies far outside the others is an arrow at
    the edge, with its number.

    Args:
        points: condition in words, difference, interval.
        measure: its name.
    """
    with style():
        figure, axes = _axes(5.6, 2.3)
        edge = _edge(points)
        axes.axvline(0, color=FAINT, linewidth=1)
        for place, (_, value, interval) in enumerate(points):
            certain = interval is not None and (interval[0] > 0 or interval[1] < 0)
            colour = (THIRD if value > 0 else WARN) if certain else ACCENT
            if abs(value) > edge:
                side = 1 if value > 0 else -1
                axes.plot(side * edge * 0.97, place, marker=">" if side > 0 else "<", markersize=6, color=colour, linestyle="none")
                text = f"{value:+.2f}".replace("-", "\u2212")
                axes.annotate(text, (side * edge * 0.92, place), color=colour, fontsize=8, va="center", ha="right" if side > 0 else "left")
                continue
            if interval:
                axes.plot([max(-edge, interval[0]), min(edge, interval[1])], [place, place], color=colour, linewidth=1.6)
            axes.plot(value, place, marker="o", markersize=5, color=colour)
        axes.set_yticks(range(len(points)), [title for title, *_ in points])
        axes.set_xlim(-edge, edge)
        axes.locator_params(axis="x", nbins=7)
        axes.margins(y=0.12)
        axes.invert_yaxis()
        axes.set_xlabel(f"{measure}, minus that of real images alone")
        return svg(figure)


def _edge(points: Sequence[tuple[str, float, Interval | None]]) -> float:
    """Half the width of a panel: the farthest interval that is not more than four times as far as the middle one."""
    reach = sorted(max(abs(value), *(abs(end) for end in interval or (0.0,))) for _, value, interval in points if value == value)  # noqa: PLR0124 - not NaN
    if not reach:
        return 1.0
    usual = max(reach[len(reach) // 2], _LEAST_EDGE)
    return 1.15 * max(r for r in [usual, *reach] if r <= 4 * usual)
