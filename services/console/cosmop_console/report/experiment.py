"""An augmentation experiment in a report, and as a page of its own."""

from __future__ import annotations

from typing import Any

from cosmop_common.experiment_records import ExperimentRecord
from cosmop_common.records import Value

from cosmop_console.report import plots
from cosmop_console.report.pages import environment

TITLES = {"binary": "Binary classifier", "one_class": "One-class classifier (kNN)", "one_class_paper": "The paper's one-class SVM"}


def page(found: ExperimentRecord) -> str:
    """The experiment as one HTML file that needs no network."""
    return environment().get_template("experiment.html.j2").render(experiment=view(found))


def view(found: ExperimentRecord) -> dict[str, Any]:
    """What the template shows."""
    return {
        "record": found,
        "plot": plots.differences(_rows(found), measure="AUROC"),
        "classifiers": [(TITLES[c], found.findings[c], [row for row in found.conditions if row.classifier == c]) for c in found.findings],
    }


def numbers(found: ExperimentRecord) -> dict[str, Any]:
    """The experiment as ``report.json`` tells it."""
    return found.model_dump(mode="json", exclude={"collection"})


def _rows(found: ExperimentRecord) -> dict[str, list[tuple[str, float, tuple[float, float] | None]]]:
    return {
        TITLES[classifier]: [
            (row.title, _point(row.differences["auroc"]), row.differences["auroc"].interval)
            for row in found.conditions
            if row.classifier == classifier and row.differences
        ]
        for classifier in found.findings
    }


def _point(value: Value) -> float:
    return float("nan") if value.value is None else value.value
