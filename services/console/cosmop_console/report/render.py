"""The report as one HTML file: no script, no network, prints on A4, follows the reader's light or dark."""

from __future__ import annotations

from collections import Counter
from typing import Any

from cosmop_console.report import experiment, paper, plots, plots_training
from cosmop_console.report.gather import ReportData
from cosmop_console.report.pages import environment, measure, words

_TITLES = {
    "fit": "fit the human filter", "scrape": "scrape", "dedup": "deduplicate", "screen": "screen for people", "label": "import labels",
    "freeze": "freeze the dataset", "gan": "train the generator", "fid": "evaluate snapshots", "binary": "train binary classifier",
    "one-class": "train one-class classifiers", "synthetic": "make synthetic images",
    "judge": "classify synthetic images", "experiment": "ask the paper's question", "report": "report", "collect": "collect",
}  # fmt: skip
_CLASSIFIERS = {"binary": "binary", "one_class": "one-class", "one_class_paper": "one-class, the paper's"}
_MEASURES = ("precision", "recall", "accuracy", "f1", "auroc")


def render(data: ReportData, values: dict[str, Any], tables: dict[str, str]) -> str:
    """The page.

    Args:
        data: pictures and records.
        values: the numbers, as in ``report.json``.
        tables: CSV by name, offered for download in the page itself.
    """
    made = environment()
    made.filters |= {"title_of": lambda name: _TITLES.get(name, name)}
    return made.get_template("report.html.j2").render(
        data=data,
        values=values,
        tables=tables,
        kinds=_CLASSIFIERS,
        table_1_notes=paper.TABLE_1_NOTES,
        funnel_rows=_funnel_rows(values["funnel"]),
        plots=_plots(data, values),
        slices=_slices(values["classifiers"]),
        experiment=experiment.view(data.experiment) if data.experiment else None,
    )


def _plots(data: ReportData, values: dict[str, Any]) -> dict[str, str]:
    """SVG by name; empty where there is nothing to draw."""
    return {
        "curve": _curve(values["gan"]),
        "training": plots_training.training(data.curves.kimg, data.curves.values, data.gan.settings) if data.gan and data.curves else "",
        "histogram": _histogram(data),
        "measures": _measures(values["classifiers"], values["paper"]["performance"]),
        "precision_recall": _precision_recall(values["classifiers"]),
        "reliability": _reliability(values["classifiers"]),
    }


def _slices(classifiers: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """The slices that tell images apart, by classifier."""
    told = {}
    for kind in ("binary", "one_class"):
        found = (classifiers.get(kind, {}).get("evaluation") or {}).get("slices", [])
        sizes = Counter(s["by"] for s in found)
        if parts := [s for s in found if sizes[s["by"]] > 1]:
            told[kind] = parts
    return told


def _funnel_rows(funnel: dict[str, Any]) -> list[dict[str, Any]]:
    """What is left after each step, with what left it there."""
    total = max(1, funnel["scraped"])
    rejected, duplicates = sum(funnel["rejected"].values()), sum(funnel["duplicates"].values())
    rows = [
        ("downloads completed", funnel["scraped"], ""),
        ("readable images", funnel["scraped"] - rejected, _parts(funnel["rejected"])),
        ("unique", funnel["unique"], _parts(funnel["duplicates"]) if duplicates else ""),
        ("with people", funnel["people"], f"no people {funnel['none']}"),
        ("labelled", sum(funnel["labelled"].values()), _parts(funnel["labelled"], lost=False)),
    ]
    return [{"name": name, "count": count, "share": 100 * count / total, "note": note} for name, count, note in rows]


def _parts(counts: dict[str, int], *, lost: bool = True) -> str:
    return ", ".join(f"{words(name)} {chr(0x2212) if lost else ''}{n}" for name, n in sorted(counts.items(), key=lambda kv: -kv[1]) if n)


def _curve(gan: dict[str, Any] | None) -> str:
    judged = [s for s in gan["snapshots"] if s["value"] is not None] if gan else []
    if not gan or not judged:
        return ""
    # Only what was measured in one way lies on one curve; the table tells the rest.
    judged = [s for s in judged if (s["protocol"], s["metric"]) == (judged[-1]["protocol"], judged[-1]["metric"])]
    intervals = [tuple(s["interval"]) if s["interval"] else None for s in judged]
    return plots.curve([s["kimg"] for s in judged], [s["value"] for s in judged], intervals, metric=measure(judged[0]["metric"]), best=gan["best"])


def _histogram(data: ReportData) -> str:
    if data.synthetic is None or "binary" not in data.classifiers:
        return ""
    return plots.histogram(list(data.synthetic.probabilities.values()), data.classifiers["binary"].card.threshold)


def _measures(classifiers: dict[str, Any], theirs: dict[str, Any]) -> str:
    ours = {
        _CLASSIFIERS[kind]: {m: (c[m]["value"], tuple(c[m]["interval"]) if c[m]["interval"] else None) for m in _MEASURES if c[m]["value"] is not None}
        for kind, c in classifiers.items()
    }
    # The paper's one-class figures belong beside the classifier that is made as it says, where that was trained.
    like_theirs = "one_class_paper" if "one_class_paper" in classifiers else "one_class"
    beside = {_CLASSIFIERS["binary"]: theirs["binary"], _CLASSIFIERS[like_theirs]: theirs["one_class"]}
    return plots.measures(ours, beside, _MEASURES) if ours else ""


def _precision_recall(classifiers: dict[str, Any]) -> str:
    told = {kind: c for kind, c in classifiers.items() if (c["evaluation"] or {}).get("pr_curve")}
    if not told:
        return ""
    curves = {_CLASSIFIERS[kind]: [(p["recall"], p["precision"]) for p in c["evaluation"]["pr_curve"]] for kind, c in told.items()}
    at = {
        _CLASSIFIERS[kind]: (c["recall"]["value"], c["precision"]["value"])
        for kind, c in told.items()
        if c["recall"]["value"] is not None and c["precision"]["value"] is not None
    }
    first = next(iter(told.values()))["evaluation"]
    return plots.precision_recall(curves, at, first["positives"] / max(1, first["images"]))


def _reliability(classifiers: dict[str, Any]) -> str:
    found = (classifiers.get("binary", {}).get("evaluation") or {}).get("reliability")
    if not found:
        return ""
    bins = ((b["probability"], b["positive"], b["images"]) for b in found["bins"])
    return plots.reliability([(said, seen["value"], tuple(seen["interval"]) if seen["interval"] else None, n) for said, seen, n in bins])
