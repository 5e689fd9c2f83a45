"""The recipe of the shipped head: ``python -m cosmop_human_detector.ship FOLDER --teacher FILE`` writes ``shipped/`` in this package. Needs torch.

Half of the folder's photos is fitted on: those whose file name's sha256 begins with an even byte. The other half is only measured.
Each source of people is then left out once, from fitting, from composites and from the choice of the threshold, and measured as people
of a kind never seen, beside the unseen photos without people.

The threshold comes from photos without people: a source of people that the head does not know scores lower than those it knows, and by
how much no held-out photo of a known source can tell, while what shows no people is as varied there as anywhere. It lets a stated share
of held-out photos without people pass, unless the least balanced error lies lower still (docs/decisions.md).
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
from pathlib import Path

import numpy as np
from cosmop_common.records import Value
from numpy.typing import NDArray

from cosmop_human_detector.cards import head_card
from cosmop_human_detector.heads import Head, HeadShape
from cosmop_human_detector.localised import Basis, Cells, fit
from cosmop_human_detector.measures import confusion, measure, wilson
from cosmop_human_detector.photos import Photo, read_folder
from cosmop_human_detector.registry import GENERAL, HEAD_FILE
from cosmop_human_detector.ship_data import FOLDS, Measured, fitted_on, gather
from cosmop_human_detector.slices import slices
from cosmop_human_detector.thresholds import Threshold, choose_threshold, upper_bound
from cosmop_human_detector.training import Trained

__all__ = ["fitted_on", "ship"]

MISS_RATE = 0.05
#: The share of held-out photos without people that may pass.
FALSE_ALARMS = 0.07
SHAPE = HeadShape(window=2)
Metrics = dict[str, dict[str, Value]]


def score(head: Head, maps: NDArray[np.float16]) -> NDArray[np.float64]:
    """Scores of N x cells x C maps."""
    side = round(maps.shape[1] ** 0.5)
    parts = [maps[i : i + 64].astype(np.float32).transpose(0, 2, 1).reshape(-1, maps.shape[2], side, side) for i in range(0, len(maps), 64)]
    return np.concatenate([head.scores(part) for part in parts])


def train(data: Measured, without: str, shape: HeadShape) -> Trained:
    """A head and its threshold from the half that may be fitted on, without one source of people."""
    photos = data.half & ~(data.photos.people & (data.photos.sources == without))
    composites = (data.composite_folds < FOLDS) & ~(data.composites.people & (data.composites.sources == without))
    held = np.zeros(len(photos))
    for fold in range(FOLDS):
        inside = photos & (data.folds != fold)
        head = _fit(data, inside, composites & (data.composite_folds != fold), shape)
        out = photos & (data.folds == fold)
        held[out] = score(head, data.photos.maps[out])
    scores, people = held[photos], data.photos.people[photos]
    threshold = choose(scores, people)
    return Trained(_fit(data, photos, composites, shape), threshold, measure(scores, people, threshold.value))


def choose(scores: NDArray[np.float64], people: NDArray[np.bool_]) -> Threshold:
    """The operating point of the rule above, from held-out scores."""
    balanced = choose_threshold(scores, people, MISS_RATE)
    value = min(balanced.value, float(np.quantile(scores[~people], 1 - FALSE_ALARMS)))
    missed = int((scores[people] < value).sum())
    return dataclasses.replace(
        balanced,
        value=value,
        miss_rate=missed / int(people.sum()),
        miss_rate_bound=upper_bound(missed, int(people.sum())),
        false_alarm_rate=float((scores[~people] >= value).mean()),
        band=(min(balanced.band[0], value), max(balanced.band[1], value)),
    )


def leave_one_source_out(data: Measured, shape: HeadShape) -> Metrics:
    """What heads measure on all people of a source that they were fitted without, and on the unseen photos without people.

    ``left_out_<slice>`` joins the people of all sources, each judged by the head that does not know their source.
    """
    people, sources = data.photos.people, data.photos.sources
    metrics: Metrics = {}
    found = np.zeros(len(people), bool)
    for source in np.unique(sources[people]):
        held = people & (sources == source)
        trained = train(data, source, shape)
        chosen = held | (~people & ~data.half)
        scores = score(trained.head, data.photos.maps[chosen])
        metrics[f"left_out_{source}"] = measure(scores, people[chosen], trained.threshold.value)
        found[held] = scores[people[chosen]] >= trained.threshold.value
    for name, members in slices(data.boxes, data.grey).items():
        metrics[f"left_out_{name}"] = {"recall": wilson(int(found[members & people].sum()), int((members & people).sum()))}
    return metrics


def unseen(data: Measured, trained: Trained) -> Metrics:
    """What the shipped head measures on the half that it was not fitted on: in all, by source, by slice, altered, and on composites."""
    people, threshold = data.photos.people[~data.half], trained.threshold.value
    scores, sources = score(trained.head, data.photos.maps[~data.half]), data.photos.sources[~data.half]
    metrics = {"test": measure(scores, people, threshold)}
    for source in np.unique(sources[people]):
        metrics[f"test_{source}"] = measure(scores[sources == source], people[sources == source], threshold)
    for name, members in slices(data.boxes, data.grey).items():
        part = members[~data.half] & people
        metrics[f"test_{name}"] = {"recall": wilson(int((scores[part] >= threshold).sum()), int(part.sum()))}
    for name, cells in data.altered.items():
        metrics[f"test_{name}"] = measure(score(trained.head, cells.maps), cells.people, threshold)
    apart = data.composite_folds == FOLDS
    metrics["test_composites"] = measure(score(trained.head, data.composites.maps[apart]), data.composites.people[apart], threshold)
    return metrics


def ship(data: Measured, photos: str, teacher: str, shape: HeadShape, target: Path) -> Metrics:
    """Fits, measures and writes the shipped head; returns its metrics.

    Args:
        photos: where the photos come from, in words, for the card.
        teacher: the teacher's file, in words, for the card.
        target: the folder that gets ``head.safetensors`` and ``card.json``.
    """
    trained = train(data, "", shape)
    metrics = unseen(data, trained) | leave_one_source_out(data, shape)
    head, threshold = trained.head.to_bytes(), trained.threshold
    version = hashlib.sha256(head + json.dumps(threshold.value).encode()).hexdigest()[:12]
    ids = tuple(image for image, inside in zip(data.ids, data.half, strict=True) if inside)
    card = head_card(trained, head, name=GENERAL, version=version, collection="", dataset=photos, ids=ids, miss_rate=MISS_RATE)
    rule = (
        f"lets {FALSE_ALARMS:.0%} of held-out photos without people pass, or fewer misses where the least balanced error lies lower; there it misses "
        f"{threshold.miss_rate:.1%} (upper 95 % bound {threshold.miss_rate_bound:.1%}) of {threshold.people} photos with people"
    )
    scores, people = score(trained.head, data.photos.maps[~data.half]), data.photos.people[~data.half]
    details = card.details | {"teacher": teacher, "slices": "size, number and position of people as the teacher located them: no annotation"}
    update = {
        "metrics": card.metrics | metrics,
        "confusion": {"test": confusion(scores, people, threshold.value)},
        "threshold_rule": rule,
        "details": details,
        "method": "linear head on 2 x 2 windows of the feature map, soft maximum over windows; fitted with located people and composites",
    }
    target.mkdir(parents=True, exist_ok=True)
    (target / HEAD_FILE).write_bytes(head)
    (target / "card.json").write_text(card.model_copy(update=update).model_dump_json(indent=1) + "\n", encoding="utf-8")
    return metrics


def _fit(data: Measured, photos: NDArray[np.bool_], composites: NDArray[np.bool_], shape: HeadShape) -> Head:
    chosen: Cells = data.photos.take(photos)
    return fit(chosen, data.composites.take(composites), Basis.of(chosen.maps), shape)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path, help="photos with labels.csv: file, label, source")
    parser.add_argument("--teacher", type=Path, required=True, help="a NanoDet file, which locates the people")
    parser.add_argument("--data", required=True, help="where the photos come from, in words, for the card")
    parser.add_argument("--cache", type=Path, required=True, help="folder for feature maps and boxes")
    parser.add_argument("--target", type=Path, default=Path(__file__).parent / "shipped")
    arguments = parser.parse_args()
    photos: list[Photo] = read_folder(arguments.folder)
    data = gather(photos, arguments.teacher, SHAPE, arguments.cache)
    teacher = f"{arguments.teacher.name}, sha256 {hashlib.sha256(arguments.teacher.read_bytes()).hexdigest()}"
    for name, values in ship(data, arguments.data, teacher, SHAPE, arguments.target).items():
        told = {key: round(value.value, 4) for key, value in values.items() if value.value is not None}
        print(name, told, values["recall"].n)  # noqa: T201 - a command's answer


if __name__ == "__main__":
    main()
