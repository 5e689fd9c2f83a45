"""``python -m cosmop_human_detector.shortcut``: the shortcut test of a model on real photos."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from cosmop_common.records import ModelCard
from cosmop_common.settings import ConnectionSettings
from cosmop_common.store import Store
from cosmop_vision.runtime import Extractor
from cosmop_vision.settings import VisionSettings

from cosmop_human_detector import nanodet, tuned
from cosmop_human_detector.corpus import gather
from cosmop_human_detector.data_versions import BlockingStore
from cosmop_human_detector.detectors import Detector, HeadDetector
from cosmop_human_detector.errors import TrainingDataError
from cosmop_human_detector.heads import Head
from cosmop_human_detector.registry import HEAD_FILE, load_card, load_file, shipped
from cosmop_human_detector.shortcut import ShortcutResult, shortcut_test
from cosmop_human_detector.shortcut_data import probes, scores_of


def find_detector(model: str, settings: VisionSettings, store: BlockingStore) -> tuple[Detector, float]:
    """A detector and its threshold: ``head`` (the shipped one), ``onnx:<path>`` (NanoDet), or ``<name>/<version>`` of the store."""
    if model.startswith("onnx:"):
        return nanodet.NanoDet(Path(model.removeprefix("onnx:")), settings), nanodet.THRESHOLD
    if model == "head":
        card, files = shipped()
        return _head(files[HEAD_FILE], settings), card.threshold

    async def load(objects: Store) -> tuple[ModelCard, bytes | Detector]:
        card = await load_card(objects, model)
        if card.details.get("backend") == tuned.BACKEND:
            return card, await tuned.load_tuned(objects, card, settings)
        return card, await load_file(objects, card, HEAD_FILE)

    card, found = store.call(load)
    return (_head(found, settings) if isinstance(found, bytes) else found), card.threshold


def _head(data: bytes, settings: VisionSettings) -> HeadDetector:
    head = Head.from_bytes(data)
    return HeadDetector(head, Extractor.create(head.shape.network, ("map",), "auto", settings))


def table(result: ShortcutResult) -> str:
    """The result for reading."""
    lines = [f"{'':<18}{'n':>6}{'mean score':>12}{'called people':>16}"]
    for name, (mean, share) in result.rows.items():
        low, high = share.interval or (0.0, 1.0)
        lines.append(f"{name:<18}{share.n or 0:>6}{mean:>12.3f}{share.value or 0:>9.1%} [{low:.1%}, {high:.1%}]")
    for name, area in (("pasted", result.pasted_auroc), ("emptied", result.emptied_auroc)):
        if area is not None and area.value is not None:
            lines.append(f"{name}: AUROC {area.value:.3f} against its control (0.5: no people are seen)")
    return "\n".join(lines)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m cosmop_human_detector.shortcut", description="Does a human filter see people, or the data set?")
    parser.add_argument("--data", action="append", required=True, help="pass:, crowdhuman:, folder: or dataset:, as for training; several may be given")
    parser.add_argument("--model", default="head", help="head (the shipped one), onnx:<path of a NanoDet file>, or <name>/<version> of the store")
    parser.add_argument("--count", type=int, default=200, help="scenes and crowds, at most")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="a file that gets the numbers as JSON")
    arguments = parser.parse_args()
    store = BlockingStore(ConnectionSettings())
    try:
        corpus = gather(arguments.data, store, limit=4 * arguments.count)
        found = probes(corpus.samples, corpus.read, arguments.count)
        if not found.enough:
            raise TrainingDataError(f"{', '.join(arguments.data)}: too few images decode for a test: two scenes and one crowd are needed")
        detector, threshold = find_detector(arguments.model, VisionSettings(), store)
        result = shortcut_test(scores_of(detector), threshold, found.scenes, found.crowds, seed=arguments.seed)
    finally:
        store.close()
    print(table(result))  # noqa: T201 - a command's answer
    if arguments.out:
        arguments.out.write_text(json.dumps({name: value.model_dump() for name, value in result.metrics().items()}, indent=1) + "\n", encoding="utf-8")
