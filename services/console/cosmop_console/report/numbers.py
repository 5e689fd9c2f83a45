"""The numbers of a report: ``report.json``, whose keys others rely on (docs/report.md)."""

from __future__ import annotations

from typing import Any

from cosmop_common.pb.cosmop.v1 import runs_pb2
from cosmop_common.records import Value

from cosmop_console.report.gather import ReportData
from cosmop_console.report.truth import Counts

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
        "classifiers": {
            kind: _classifier(view.card.metrics.get("test", {}))
            | {"model": f"{view.card.name}/{view.card.version}", "confusion": view.card.confusion.get("test")}
            for kind, view in data.classifiers.items()
        },
        "synthetic": {"total": data.synthetic.total, "positive": data.synthetic.positive, "model": data.synthetic.model} if data.synthetic else None,
        "truth": _truth(data),
    }


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
    return {"run": data.gan.run, "snapshots": snapshots, "best": data.gan.best, "images": data.gan.images, "ended_because": data.gan.ended_because}


def _classifier(metrics: dict[str, Value]) -> dict[str, Any]:
    return {name: value(metrics.get(name)) for name in ("precision", "recall", "accuracy", "f1", "auroc")}


def _truth(data: ReportData) -> dict[str, Any] | None:
    if data.truth is None:
        return None
    stages = {"refusals": data.truth.refusals, "dedup": data.truth.dedup, "screen": data.truth.screen}
    told = {name: _counts(counts, matrix=name != "dedup") for name, counts in stages.items() if counts is not None}
    if "screen" in told:
        told["screen"] |= {
            "seen_in_fitting": data.truth.screen_seen,
            "model": f"{data.truth.detector.name}/{data.truth.detector.version}" if data.truth.detector else None,
        }
    return told


def _counts(counts: Counts, *, matrix: bool) -> dict[str, Any]:
    told = {"precision": value(counts.precision), "recall": value(counts.recall), "tp": counts.tp, "fp": counts.fp, "fn": counts.fn}
    return told | ({"accuracy": value(counts.accuracy), "tn": counts.tn} if matrix else {})
