"""From the words of all models to the answer: a table with paired intervals, and one plain sentence for each classifier. Pure."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from cosmop_common.experiment_records import CellRecord, ConditionRecord, ExperimentRecord, FindingRecord, ServedWord
from cosmop_common.records import Value
from numpy.typing import NDArray

from cosmop_classifier.experiment_cells import cell_name
from cosmop_classifier.experiment_plan import BINARY, ONE_CLASS, PAPER, Condition, answering
from cosmop_classifier.experiment_statistics import MEASURES, Draws, measure_draws, share_called, value_of, verdict

#: The measure that answers: it needs no threshold.
ANSWERS_BY = "auroc"
NAMES = {BINARY: "the binary classifier", ONE_CLASS: "the one-class classifier", PAPER: "the paper's one-class SVM"}
_EASY = 0.995
#: Both shares of ``CellRecord.synthetic_between`` at least this: the median synthetic image lies in the gap between the classes.
_GAP = 0.8
#: Shares of synthetic images that differ by less need no explanation.
_SAME = 0.1


@dataclass(frozen=True)
class Asked:
    """What was tried, and the test images it was measured on."""

    classifiers: Sequence[str]
    conditions: Sequence[Condition]
    seeds: int
    #: (n,), whether each test image is positive; and its near-duplicate group.
    truth: NDArray[np.bool_]
    groups: Sequence[str]


def method(asked: Asked, share: float) -> str:
    """How the intervals came about, in words."""
    return (
        f"Each of {asked.seeds} seeds trains on its own {100 * share:.0f} % of the near-duplicate groups of the train split and on its own draw of "
        f"synthetic images, the same under every condition. All are measured on the same {len(asked.truth)} test images "
        f"({len(set(asked.groups))} groups). Intervals are 95 %: 1,000 resamples of test groups and of seeds together (pigeonhole bootstrap), and for "
        "differences each resample takes real images alone off, on the same images and seeds. AUROC was chosen to answer before anything was "
        "measured, because it depends on no threshold. Beyond that one comparison, about one interval in twenty leaves out zero by chance alone."
    )


def conclude(
    asked: Asked, cells: Mapping[str, CellRecord], served: Mapping[str, ServedWord] | None = None
) -> tuple[list[ConditionRecord], dict[str, FindingRecord]]:
    """All conditions with their measures and differences, and a finding for each classifier.

    Args:
        cells: the models' words, by ``cell_name``.
        served: by classifier, what the model that is served calls the synthetic images.
    """
    draws = Draws.make(asked.groups, asked.seeds)
    table: list[ConditionRecord] = []
    findings = {}
    for classifier in asked.classifiers:
        rows = _conditions(classifier, asked, cells, draws)
        table += rows
        findings[classifier] = _finding(classifier, rows, asked, cells, (served or {}).get(classifier))
    return table, findings


def _conditions(classifier: str, asked: Asked, cells: Mapping[str, CellRecord], draws: Draws) -> list[ConditionRecord]:
    rows: list[ConditionRecord] = []
    alone: dict[str, NDArray[np.float64]] = {}
    n = len(asked.truth)
    for condition in asked.conditions:
        of_seeds = [cells[cell_name(classifier, condition, seed)] for seed in range(asked.seeds)]
        by_seed = [_measured(cell, asked.truth, draws) for cell in of_seeds]
        means = {name: draws.average([m[name] for m in by_seed]) for name in MEASURES}
        alone = alone or means
        rows.append(
            ConditionRecord(
                classifier=classifier,
                condition=condition.name,
                title=condition.title,
                ratio=condition.ratio,
                images={kind: float(np.mean([c.images[kind] for c in of_seeds])) for kind in of_seeds[0].images},
                metrics={name: value_of(means[name], n) for name in MEASURES},
                differences={} if condition.name == "real" else {name: value_of(means[name] - alone[name], n) for name in MEASURES},
                by_seed=[None if np.isnan(m[ANSWERS_BY][0]) else float(m[ANSWERS_BY][0]) for m in by_seed],
            )
        )
    return rows


def _measured(cell: CellRecord, truth: NDArray[np.bool_], draws: Draws) -> dict[str, NDArray[np.float64]]:
    score = np.array(cell.scores)
    return measure_draws(truth, score >= cell.threshold, score, draws.images)


def _finding(classifier: str, rows: Sequence[ConditionRecord], asked: Asked, cells: Mapping[str, CellRecord], served: ServedWord | None) -> FindingRecord:
    ratio = answering([c.ratio for c in asked.conditions if c.ratio is not None])
    row = next(r for r in rows if r.ratio == ratio and r.condition.startswith("synthetic-"))
    real, copied = ([cells[cell_name(classifier, c, seed)] for seed in range(asked.seeds)] for c in asked.conditions[:2])
    called = [np.array(c.scores) >= c.threshold for c in real]
    difference, before = row.differences[ANSWERS_BY], rows[0].metrics[ANSWERS_BY]
    said = verdict(difference)
    finding = FindingRecord(
        verdict=said,
        sentence=sentence(NAMES[classifier], said, ratio, difference, before),
        condition=row.condition,
        measure=ANSWERS_BY,
        difference=difference,
        synthetic_called=share_called([c.synthetic_called or [] for c in real]),
        positives_called=share_called([list(c[asked.truth]) for c in called]),
        negatives_called=share_called([list(c[~asked.truth]) for c in called]),
        # Cells of a job that an older version had begun say nothing of this.
        synthetic_called_copies=share_called([c.synthetic_called or [] for c in copied]) if all(c.synthetic_called for c in copied) else None,
        synthetic_between=_mean_between(real),
        served=served,
    )
    return finding.model_copy(update={"synthetic_note": note(finding)})


def _mean_between(cells: Sequence[CellRecord]) -> tuple[float, float] | None:
    known = [c.synthetic_between for c in cells if c.synthetic_between is not None]
    return (float(np.mean([k[0] for k in known])), float(np.mean([k[1] for k in known]))) if known else None


def sentence(name: str, said: str, ratio: float, difference: Value, before: Value) -> str:
    """The answer in one sentence, with its interval."""
    what = f"Adding {ratio:.3g} synthetic image{'' if ratio == 1 else 's'} for each real positive one"
    if difference.value is None or before.value is None:
        return f"{what}: no difference could be shown for {name}, because the test split lacks a class."
    change = f"AUROC {before.value:.3f} on real images alone, changed by {_signed(difference.value)}"
    if difference.interval is not None:
        change += f" [{_signed(difference.interval[0])}, {_signed(difference.interval[1])}]"
    if said in {"helps", "hurts"}:
        return f"{what} {said} {name}: {change}."
    why = ""
    if difference.interval == (0.0, 0.0):
        why = "; the synthetic images are so unlike real ones that no test image's score moved past another's"
    elif before.value >= _EASY:
        why = "; real images alone leave next to nothing to gain"
    return f"{what}: no difference could be shown for {name}: {change}{why}."


def note(finding: FindingRecord) -> str:
    """Why models call different shares of the same synthetic images positive, where they do; else empty."""
    copies, served, alone = finding.synthetic_called_copies, finding.served, finding.synthetic_called.value
    shares = [
        ("trained on augmented copies as well, they call", copies.value if copies else None),
        (f"the model that is served ({served.recipe}) calls" if served else "", served.called.value if served else None),
    ]
    told = [(who, share) for who, share in shares if share is not None and alone is not None]
    if all(abs(share - (alone or 0.0)) < _SAME for _, share in told):
        return ""
    said = "; ".join(f"{who} {_percent(share)} of these images positive" for who, share in told)
    said = f"Another recipe, another share: {said}. None is wrong: all look at the same pixels, and differ in where their boundary lies."
    if finding.synthetic_between and min(finding.synthetic_between) >= _GAP:
        below, above = finding.synthetic_between
        said += (
            f" The median synthetic image scores above {_percent(below)} of the negative and below {_percent(above)} of the positive test images: "
            "it lies in the gap between the classes, where a boundary may move without a mistake on real images, and takes most synthetic ones with it."
        )
    return said


def to_csv(record: ExperimentRecord) -> str:
    """The table, one row for each classifier, condition and measure."""
    sink = io.StringIO()
    writer = csv.writer(sink, lineterminator="\n")
    writer.writerow(
        ["classifier", "condition", "trained on", "positive", "negative", "augmented", "synthetic", "measure", "value", "low", "high",
         "difference", "difference low", "difference high"]
    )  # fmt: skip
    for row in record.conditions:
        images = [round(row.images[kind], 1) for kind in ("positive", "negative", "augmented", "synthetic")]
        for name, value in row.metrics.items():
            numbers = [*_numbers(value), *_numbers(row.differences.get(name))]
            writer.writerow([row.classifier, row.condition, row.title, *images, name, *numbers])
    return sink.getvalue()


def _numbers(value: Value | None) -> list[str]:
    if value is None or value.value is None:
        return ["", "", ""]
    low, high = value.interval or (None, None)
    return ["" if number is None else f"{number:.6g}" for number in (value.value, low, high)]


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def _signed(number: float) -> str:
    text = f"{number:+.3f}"
    return "0.000" if text[1:] == "0.000" else text.replace("-", "\u2212")
