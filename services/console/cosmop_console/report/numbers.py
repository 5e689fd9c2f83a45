"""The numbers of a report: ``report.json``, whose keys others rely on (docs/report.md)."""

from __future__ import annotations

from typing import Any

from cosmop_common.pb.cosmop.v1 import runs_pb2
from cosmop_common.records import Value

from cosmop_console.report import experiment, paper
from cosmop_console.report.gather import ClassifierView, ReportData
from cosmop_console.report.truth import Counts, wilson

#: Stages that only hold others.
_CONTAINERS = {"collect"}


def numbers(data: ReportData) -> dict[str, Any]:
    """All numbers of the report, ready for JSON."""
    return {
        "collection": data.collection.name,
        "run": data.run.id,
        "provenance": data.run.job.pipeline.provenance,
        "seconds": seconds(data.run),
        "incomplete": {s.name: s.message for s in data.run.stages if s.state in {runs_pb2.RUN_STATE_FAILED, runs_pb2.RUN_STATE_CANCELLED}},
        "funnel": funnel(data),
        "dataset": {"version": data.dataset.version, "splits": data.dataset.splits, "left_out": data.dataset.left_out} if data.dataset else None,
        "gan": _gan(data),
        "classifiers": {kind: _classifier(view) for kind, view in data.classifiers.items()},
        "synthetic": _synthetic(data),
        "truth": _truth(data),
        "human_filter": _human_filter(data),
        "copies": [{"kept": g.kept, "count": g.count, "copies": [{"image": c.image, "distance": c.distance} for c in g.copies]} for g in data.copies],
        "experiment": experiment.numbers(data.experiment) if data.experiment else None,
        "not_run": not_run(data),
        "paper": paper.FIGURES,
    }


def not_run(data: ReportData) -> dict[str, dict[str, str]]:
    """What a reader would look for and this run has not: in words, and the command that makes it."""
    missing: dict[str, dict[str, str]] = {}
    dataset = f"{data.dataset.collection}/{data.dataset.version}" if data.dataset else ""
    again = f"cosmop report {data.run.id}"
    if not dataset:
        missing["dataset"] = {"what": "No dataset version was frozen.", "command": f"cosmop freeze {data.collection.name}"}
    if data.gan is None:
        missing["gan"] = {"what": "No generator was trained.", "command": f"cosmop train gan {dataset or '<collection>/<version>'}"}
    if not data.classifiers:
        missing["classifiers"] = {"what": "No classifier was trained.", "command": f"cosmop train classifier {dataset or '<collection>/<version>'}"}
    if data.synthetic is None:
        missing["synthetic"] = {
            "what": "No synthetic images were classified: gan.synthetic of the collection is 0, or a step before failed.",
            "command": f"cosmop run {data.collection.name}",
        }
    if data.experiment is None:
        gan = data.gan.run if data.gan else f"{data.run.id}-gan"
        missing["experiment"] = {
            "what": "The experiment was not run.",
            "command": f"cosmop experiment augmentation {dataset or '<collection>/<version>'} --gan {gan} && {again}",
        }
    return missing


def seconds(run: runs_pb2.Run) -> dict[str, float]:
    """Wall-clock seconds of each stage. Some run side by side, so that their sum is more than the whole."""
    took = {}
    for stage in run.stages:
        if stage.name in _CONTAINERS or not (stage.HasField("started") and stage.HasField("finished")):
            continue
        took[stage.name] = round((stage.finished.ToNanoseconds() - stage.started.ToNanoseconds()) / 1e9, 2)
    return took


def funnel(data: ReportData) -> dict[str, Any]:
    """The funnel. scraped = unique + duplicates + rejected + pending + failed + erased."""
    f = data.funnel
    return {
        "scraped": f.scraped,
        "rejected": dict(f.rejected),
        "unique": f.unique,
        "duplicates": {kind: f.duplicates.get(kind, 0) for kind in ("exact", "same_hash", "near")},
        "people": f.people,
        "none": f.none,
        "unscreened": f.unscreened,
        "pending": f.pending,
        "failed": f.failed,
        "erased": f.erased,
        "labelled": dict(f.labelled),
    }


def value(v: Value | None) -> dict[str, Any]:
    """A measured number with its interval."""
    return {"value": v.value if v else None, "interval": list(v.interval) if v and v.interval else None, "n": v.n if v else None}


def _gan(data: ReportData) -> dict[str, Any] | None:
    if data.gan is None:
        return None
    snapshots = []
    for view in data.snapshots:
        measure = view.evaluation.measures[0] if view.evaluation and view.evaluation.measures else None
        snapshots.append(
            {
                "kimg": view.record.kimg,
                "metric": measure.name if measure else None,
                "value": measure.value if measure else None,
                "interval": list(measure.interval) if measure and measure.interval else None,
                "measures": {m.name: m.value for m in view.evaluation.measures} if view.evaluation else {},
                "protocol": view.evaluation.protocol if view.evaluation else None,
            }
        )
    return {
        "run": data.gan.run,
        "snapshots": snapshots,
        "best": data.gan.best,
        "best_because": data.gan.best_because,
        "images": data.gan.images,
        "ended_because": data.gan.ended_because,
        "curves": data.curves.table() if data.curves else None,
    }


def _classifier(view: ClassifierView) -> dict[str, Any]:
    metrics = view.card.metrics.get("test", {})
    measured = {name: value(metrics.get(name)) for name in ("precision", "recall", "accuracy", "f1", "auroc", "average_precision")}
    return measured | {
        "model": f"{view.card.name}/{view.card.version}",
        "confusion": view.card.confusion.get("test"),
        "threshold": view.card.threshold,
        "threshold_rule": view.card.threshold_rule,
        "evaluation": _evaluation(view),
    }


def _evaluation(view: ClassifierView) -> dict[str, Any] | None:
    """What stands behind the measures on the test split; see ``cosmop_common.model_evaluation``."""
    if view.evaluation is None or "test" not in view.evaluation.splits:
        return None
    return view.evaluation.splits["test"].model_dump(mode="json", exclude={"metrics", "confusion"}) | {"groups_parted": view.evaluation.groups_parted}


def _synthetic(data: ReportData) -> dict[str, Any] | None:
    found = data.synthetic
    if found is None:
        return None
    return {"total": found.total, "positive": found.positive, "model": found.model, "share": value(wilson(found.positive, found.total))}


def _human_filter(data: ReportData) -> dict[str, Any] | None:
    found = data.screening
    if found is None:
        return None
    details = found.card.details if found.card else {}
    return {
        "model": found.model,
        "network": found.card.network if found.card else None,
        "threshold": found.threshold,
        "threshold_rule": found.card.threshold_rule if found.card else "",
        "miss_rate": details.get("miss_rate"),
        "miss_rate_bound": details.get("miss_rate_bound"),
        "band": details.get("band"),
        "people": found.people,
        "none": found.none,
        "uncertain": found.uncertain,
        "metrics": {where: {name: value(v) for name, v in measures.items()} for where, measures in (found.card.metrics if found.card else {}).items()},
    }


def _truth(data: ReportData) -> dict[str, Any] | None:
    if data.truth is None:
        return None
    stages = {"refusals": data.truth.refusals, "dedup": data.truth.dedup, "screen": data.truth.screen}
    told = {name: _counts(counts, matrix=name != "dedup") for name, counts in stages.items() if counts is not None}
    if "screen" in told:
        told["screen"] |= {
            "seen_in_fitting": data.truth.screen_seen,
            "model": data.screening.model if data.screening else None,
        }
    return told


def _counts(counts: Counts, *, matrix: bool) -> dict[str, Any]:
    told = {"precision": value(counts.precision), "recall": value(counts.recall), "tp": counts.tp, "fp": counts.fp, "fn": counts.fn}
    return told | ({"accuracy": value(counts.accuracy), "tn": counts.tn} if matrix else {})
