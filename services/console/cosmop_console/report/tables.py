"""Every table of a report as CSV, from the numbers of ``report.json``: long form, one measured number a row."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from typing import Any

Rows = list[Sequence[Any]]
OURS, PAPER = "this run", "the paper"


def tables(values: dict[str, Any]) -> dict[str, str]:
    """CSV by name of the table; those that would be empty are left out."""
    made: dict[str, tuple[Sequence[str], Rows]] = {
        "funnel": (("source", "step", "images"), list(_funnel(values))),
        "human_filter": (("set", "measure", "value", "low", "high", "n"), list(_human_filter(values["human_filter"]))),
        "copies": (("kept", "copy", "distance"), [(g["kept"], c["image"], c["distance"]) for g in values["copies"] for c in g["copies"]]),
        "table_1_fid": (("source", "kimg", "metric", "value", "low", "high", "best"), list(_table_1(values))),
        "training_curves": _training(values["gan"]),
        "table_2_splits": (("source", "split", "class", "images"), list(_table_2(values))),
        "performance": (("source", "classifier", "measure", "value", "low", "high", "n"), list(_performance(values))),
        "confusion": (
            ("classifier", "tp", "fp", "fn", "tn"),
            [(k, *(c["confusion"][x] for x in ("tp", "fp", "fn", "tn"))) for k, c in values["classifiers"].items() if c["confusion"]],
        ),
        "precision_recall": (("classifier", "threshold", "precision", "recall"), list(_curves(values["classifiers"]))),
        "reliability": (
            ("classifier", "low", "high", "probability", "positive", "positive low", "positive high", "images"),
            list(_bins(values["classifiers"])),
        ),
        "slices": (("classifier", "by", "slice", "images", "positives", "measure", "value", "low", "high"), list(_slices(values["classifiers"]))),
        "mistakes": (("classifier", "kind", "image", "label", "score"), list(_mistakes(values["classifiers"]))),
        "synthetic": (("source", "images", "called positive", "share", "low", "high"), list(_synthetic(values))),
        "experiment": (
            ("classifier", "condition", "trained on", "measure", "value", "low", "high", "difference", "difference low", "difference high"),
            list(_experiment(values["experiment"])),
        ),
        "truth": (("stage", "measure", "value", "low", "high", "n"), list(_truth(values["truth"]))),
        "seconds": (("stage", "seconds"), list(values["seconds"].items())),
    }
    return {name: _csv(header, rows) for name, (header, rows) in made.items() if any(row[0] != PAPER for row in rows)}


def _csv(header: Sequence[str], rows: Rows) -> str:
    sink = io.StringIO()
    writer = csv.writer(sink, lineterminator="\n")
    writer.writerow(header)
    writer.writerows([["" if cell is None else cell for cell in row] for row in rows])
    return sink.getvalue()


def _spread(value: dict[str, Any]) -> tuple[Any, Any, Any]:
    low, high = value["interval"] or (None, None)
    return value["value"], low, high


def _funnel(values: dict[str, Any]) -> Iterable[Sequence[Any]]:
    funnel = values["funnel"]
    for name, count in funnel.items():
        if isinstance(count, dict):
            yield from ((OURS, f"{name}: {part}", n) for part, n in count.items())
        else:
            yield OURS, name, count
    paper = values["paper"]["funnel"]
    yield PAPER, "collected", paper["collected"]
    yield PAPER, "relevant", paper["relevant"]
    yield from ((PAPER, f"labelled: {name}", n) for name, n in paper["labelled"].items())


def _human_filter(found: dict[str, Any] | None) -> Iterable[Sequence[Any]]:
    if not found:
        return
    for name in ("threshold", "miss_rate", "miss_rate_bound", "people", "none", "uncertain"):
        yield "all images" if name in {"people", "none", "uncertain"} else "held out", name, found[name], None, None, None
    for where, measures in found["metrics"].items():
        for name, value in measures.items():
            yield where, name, *_spread(value), value["n"]


def _table_1(values: dict[str, Any]) -> Iterable[Sequence[Any]]:
    for s in (values["gan"] or {"snapshots": []})["snapshots"]:
        yield OURS, s["kimg"], s["metric"], *_spread(s), s["kimg"] == values["gan"]["best"]
    for row in values["paper"]["table_1"]:
        yield PAPER, row["kimg"], "fid", row["fid"], None, None, None


def _training(gan: dict[str, Any] | None) -> tuple[Sequence[str], Rows]:
    curves = (gan or {}).get("curves") or {"names": [], "rows": []}
    return curves["names"], curves["rows"]


def _table_2(values: dict[str, Any]) -> Iterable[Sequence[Any]]:
    splits = values["dataset"]["splits"] if values["dataset"] else {}
    for source, of in ((OURS, splits), (PAPER, values["paper"]["table_2"])):
        for split, counts in of.items():
            yield from ((source, split, name, n) for name, n in counts.items())


def _performance(values: dict[str, Any]) -> Iterable[Sequence[Any]]:
    for kind, c in values["classifiers"].items():
        for name in ("precision", "recall", "accuracy", "f1", "auroc", "average_precision"):
            yield OURS, kind, name, *_spread(c[name]), c[name]["n"]
    for kind, measures in values["paper"]["performance"].items():
        yield from ((PAPER, kind, name, value, None, None, None) for name, value in measures.items())


def _curves(classifiers: dict[str, Any]) -> Iterable[Sequence[Any]]:
    for kind, c in classifiers.items():
        for point in (c["evaluation"] or {}).get("pr_curve", []):
            yield kind, point["threshold"], point["precision"], point["recall"]


def _bins(classifiers: dict[str, Any]) -> Iterable[Sequence[Any]]:
    for kind, c in classifiers.items():
        for b in ((c["evaluation"] or {}).get("reliability") or {"bins": []})["bins"]:
            yield kind, b["low"], b["high"], b["probability"], *_spread(b["positive"]), b["images"]


def _slices(classifiers: dict[str, Any]) -> Iterable[Sequence[Any]]:
    for kind, c in classifiers.items():
        for s in (c["evaluation"] or {}).get("slices", []):
            for name, value in s["metrics"].items():
                yield kind, s["by"], s["name"], s["images"], s["positives"], name, *_spread(value)


def _mistakes(classifiers: dict[str, Any]) -> Iterable[Sequence[Any]]:
    for kind, c in classifiers.items():
        for which in ("false_positives", "false_negatives"):
            yield from ((kind, which, m["image"], m["label"], m["score"]) for m in (c["evaluation"] or {}).get(which, []))


def _synthetic(values: dict[str, Any]) -> Iterable[Sequence[Any]]:
    if ours := values["synthetic"]:
        yield OURS, ours["total"], ours["positive"], *_spread(ours["share"])
    paper = values["paper"]["synthetic"]
    yield PAPER, paper["total"], paper["positive"], round(paper["positive"] / paper["total"], 4), None, None


def _experiment(found: dict[str, Any] | None) -> Iterable[Sequence[Any]]:
    for row in (found or {"conditions": []})["conditions"]:
        for name, value in row["metrics"].items():
            difference = row["differences"].get(name)
            more = _spread(difference) if difference else (None, None, None)
            yield row["classifier"], row["condition"], row["title"], name, *_spread(value), *more


def _truth(truth: dict[str, Any] | None) -> Iterable[Sequence[Any]]:
    for stage, told in (truth or {}).items():
        for name in ("precision", "recall", "accuracy"):
            if name in told:
                yield stage, name, *_spread(told[name]), told[name]["n"]
