"""The recipe of the shipped head: ``python -m cosmop_human_detector.ship FOLDER`` writes ``shipped/`` in this package. Needs torch.

Half of the folder's photos is fitted on: those whose file name's sha256 begins with an even byte. The other half is only measured.
Each source of people is then left out once, from fitting and from the choice of the threshold, and measured as people of a kind never
seen, beside the unseen photos without people. Two photos are never both in a fit and in its measurement when they are near-duplicates.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from pathlib import Path, PurePosixPath

import numpy as np
from cosmop_common.records import Value
from cosmop_vision.runtime import Extractor
from numpy.typing import NDArray

from cosmop_human_detector.cards import head_card
from cosmop_human_detector.features import Examples, extract
from cosmop_human_detector.heads import HeadShape
from cosmop_human_detector.measures import confusion, measure
from cosmop_human_detector.photos import Photo, read_folder
from cosmop_human_detector.registry import GENERAL, HEAD_FILE
from cosmop_human_detector.training import near_duplicates, score, train

MISS_RATE = 0.05


def fitted_on(file: str) -> bool:
    """Whether a photo belongs to the half that the head is fitted on."""
    return hashlib.sha256(PurePosixPath(file).name.encode()).digest()[0] % 2 == 0


def unseen(examples: Examples, fitted: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Those not fitted on, without the near-duplicates of any that was."""
    groups = near_duplicates(examples)
    return ~np.isin(groups, np.unique(groups[fitted]))


def leave_one_source_out(examples: Examples, half: NDArray[np.bool_], shape: HeadShape) -> dict[str, dict[str, Value]]:
    """For each source of people what a head measures that was fitted without it, at the threshold that was chosen without it.

    The measured set is all people of the source and the unseen half of the photos without people.
    """
    metrics = {}
    sources = np.unique(examples.sources[examples.people])
    for source in sources if len(sources) > 1 else []:
        held = examples.people & (examples.sources == source)
        fitted = half & ~held
        trained = train(examples.take(fitted), shape, MISS_RATE)
        measured = unseen(examples, fitted) & (held | ~examples.people)
        chosen = examples.take(measured)
        metrics[f"left_out_{source}"] = measure(score(trained.head, chosen.windows), chosen.people, trained.threshold.value)
    return metrics


def ship(photos: list[Photo], data: str, shape: HeadShape, target: Path) -> dict[str, dict[str, Value]]:
    """Fits, measures and writes the shipped head; returns its metrics.

    Args:
        data: where the photos come from, in words, for the card.
        target: the folder that gets ``head.safetensors`` and ``card.json``.
    """
    examples = extract(photos, Extractor.create(shape.network, ("map",)), shape)
    by_id = {photo.sha256: photo for photo in photos}
    half = np.array([fitted_on(by_id[image].file) for image in examples.ids])
    trained = train(examples.take(half), shape, MISS_RATE)
    test = examples.take(unseen(examples, half))
    scores, threshold = score(trained.head, test.windows), trained.threshold.value
    metrics = {"test": measure(scores, test.people, threshold)}
    for source in np.unique(test.sources):
        of_source = test.sources == source
        metrics[f"test_{source}"] = measure(scores[of_source], test.people[of_source], threshold)
    metrics |= leave_one_source_out(examples, half, shape)
    head = trained.head.to_bytes()
    version = hashlib.sha256(head + json.dumps(threshold).encode()).hexdigest()[:12]
    ids = examples.take(half).ids
    card = head_card(trained, head, name=GENERAL, version=version, collection="", dataset=data, ids=ids, miss_rate=MISS_RATE)
    card = card.model_copy(update={"metrics": card.metrics | metrics, "confusion": {"test": confusion(scores, test.people, threshold)}})
    target.mkdir(parents=True, exist_ok=True)
    (target / HEAD_FILE).write_bytes(head)
    (target / "card.json").write_text(card.model_dump_json(indent=1) + "\n", encoding="utf-8")
    return metrics


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path, help="photos with labels.csv: file, label, source")
    parser.add_argument("--data", required=True, help="where the photos come from, in words, for the card")
    parser.add_argument("--target", type=Path, default=Path(__file__).parent / "shipped")
    parser.add_argument("--size", type=int, default=HeadShape.size)
    arguments = parser.parse_args()
    metrics = ship(read_folder(arguments.folder), arguments.data, HeadShape(size=arguments.size), arguments.target)
    for name, values in metrics.items():
        print(name, {key: round(value.value, 4) for key, value in values.items() if value.value is not None})  # noqa: T201 - a command's answer


if __name__ == "__main__":
    main()
