"""An augmentation experiment in a report, and as a page of its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cosmop_common.experiment_records import ConditionRecord, ExperimentRecord

from cosmop_console.report import plots
from cosmop_console.report.pages import environment

TITLES = {"binary": "Binary classifier", "one_class": "One-class classifier (kNN)", "one_class_paper": "The paper's one-class SVM"}


def page(found: ExperimentRecord) -> str:
    """The experiment as one HTML file that needs no network."""
    return environment().get_template("experiment.html.j2").render(experiment=view(found))


def view(found: ExperimentRecord) -> dict[str, Any]:
    """What the template shows: the record, and for each classifier its title, finding, conditions and plot."""
    told = []
    for classifier, finding in found.findings.items():
        rows = [row for row in found.conditions if row.classifier == classifier]
        told.append((TITLES[classifier], finding, rows, plots.differences(_points(rows), measure="AUROC")))
    return {"record": found, "classifiers": told}


def numbers(found: ExperimentRecord) -> dict[str, Any]:
    """The experiment as ``report.json`` tells it."""
    return found.model_dump(mode="json", exclude={"collection"})


def _points(rows: Sequence[ConditionRecord]) -> list[tuple[str, float, tuple[float, float] | None]]:
    differences = [(row.title, row.differences["auroc"]) for row in rows if "auroc" in row.differences]
    return [(title, value.value, value.interval) for title, value in differences if value.value is not None]
