"""How many images a second does the human filter screen, decoding included, against eager torch in fp32 of the same network?

``python -m benchmarks.detect [--quick] [--nanodet FILE] [--images N]``. Both sides decode the same files the same way, at the same size, and use as
many threads as the process has cores; rounds alternate, the best of each counts. Rates are per wall-clock second; ``cpu`` rates, cores over
CPU seconds, hold on a busy machine too. NanoDet, where its file is named, screens the same images at its own resolution, in ONNX Runtime as well.
On all labelled photos that the head was not fitted on, its accuracy stands beside NanoDet's; ``left_out`` repeats what the head's card says of
heads that were fitted without one source of people, at their own thresholds.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from cosmop_human_detector.detectors import Detector, HeadDetector
from cosmop_human_detector.heads import Head
from cosmop_human_detector.measures import measure
from cosmop_human_detector.nanodet import THRESHOLD, NanoDet
from cosmop_human_detector.registry import HEAD_FILE, shipped
from cosmop_vision.runtime import Extractor
from numpy.typing import NDArray

from benchmarks import pictures, report

BATCH = 16
ROUNDS = 3
CORES = len(os.sched_getaffinity(0))


def main() -> None:
    """Measures and reports."""
    parser = argparse.ArgumentParser(description=__doc__)
    pictures.add_options(parser, 96)
    parser.add_argument("--nanodet", type=Path, default=pictures.PHOTOS.parent / "weights" / "nanodet_m.onnx")
    parser.add_argument("--quick", action="store_true", help="one round on 32 images; accuracy on the same")
    options = parser.parse_args()
    count, rounds = (32, 1) if options.quick else (options.images, ROUNDS)
    torch.set_num_threads(CORES)
    card, files = shipped()
    head = Head.from_bytes(files[HEAD_FILE])
    rivals: dict[str, Detector] = {
        "ours": HeadDetector(head, Extractor.create(head.shape.network, ("map",), "onnx")),
        "eager": HeadDetector(head, Extractor.create(head.shape.network, ("map",), "torch")),
    }
    thresholds = {"ours": card.threshold}
    if options.nanodet.is_file():
        rivals["nanodet"] = NanoDet(options.nanodet)
        thresholds["nanodet"] = THRESHOLD
    fitted = set(card.details["fitted_on"])
    data, _, what = unseen(options.photos, count, fitted)
    rates: dict[str, dict[str, float]] = {name: {"wall": 0.0, "cpu": 0.0} for name in rivals}
    scores: dict[str, NDArray[np.float64]] = {}
    for _ in range(rounds):
        for name, detector in rivals.items():
            wall, cpu = time.perf_counter(), time.process_time()
            scores[name] = screen(detector, data)
            rates[name]["wall"] = max(rates[name]["wall"], len(data) / (time.perf_counter() - wall))
            rates[name]["cpu"] = max(rates[name]["cpu"], len(data) * CORES / (time.process_time() - cpu))
    recipes = {"ours": f"{card.network} at {head.shape.size} px, ONNX Runtime", "eager": f"{card.network} at {head.shape.size} px, eager torch, fp32"}
    extra: dict[str, Any] = {"rates": rates, "pictures": what, "recipes": recipes | {"nanodet": "NanoDet-m at 416 px, ONNX Runtime"}}
    extra["difference"] = float(np.abs(scores["ours"] - scores["eager"]).max())
    extra["left_out"] = {name: {k: v.model_dump() for k, v in values.items()} for name, values in card.metrics.items() if name.startswith("left_out_")}
    labelled, people, _ = unseen(options.photos, count if options.quick else 10**6, fitted)
    if people is not None:
        found = {name: measure(screen(rivals[name], labelled), people, threshold) for name, threshold in thresholds.items()}
        extra["accuracy"] = {name: {k: v.model_dump() for k, v in values.items()} for name, values in found.items()}
        for name, values in found.items():
            print(f"{name}: " + ", ".join(f"{key} {value.value:.3f}" for key, value in values.items() if value.value is not None) + f" on {len(people)}")
    print({name: {key: round(value, 1) for key, value in rate.items()} for name, rate in rates.items()})
    report.write("detect", rates["ours"]["wall"], "torch-eager-fp32", torch.__version__, rates["eager"]["wall"], "img/s", len(data), **extra)


def screen(detector: Detector, data: list[bytes]) -> NDArray[np.float64]:
    """Scores of encoded images: the next batch is decoded while one is being scored, as the service does."""
    batches = [data[start : start + BATCH] for start in range(0, len(data), BATCH)]
    with ThreadPoolExecutor(CORES) as pool:
        waiting = [pool.submit(detector.prepare, one) for one in batches[0]]
        found = []
        for following in [*batches[1:], []]:
            ready, waiting = waiting, [pool.submit(detector.prepare, one) for one in following]
            found.append(detector.scores(np.stack([future.result() for future in ready])))
    return np.concatenate(found)


def unseen(folder: Path, count: int, fitted: set[str]) -> tuple[list[bytes], NDArray[np.bool_] | None, str]:
    """Encoded images, half with people and half without, that no head was fitted on; whether they show people; what they are."""
    if not (folder / "labels.csv").is_file():
        images, what = pictures.load(folder, count)
        return [pictures.jpeg(image) for image in images], None, what
    with (folder / "labels.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    kinds: dict[str, list[bytes]] = {"human": [], "no_human": []}
    for row in sorted(rows, key=lambda r: hashlib.sha256(r["file"].encode()).digest()):
        data = (folder / row["file"]).read_bytes()
        if row["label"] in kinds and len(kinds[row["label"]]) < count // 2 and hashlib.sha256(data).hexdigest()[:12] not in fitted:
            kinds[row["label"]].append(data)
    chosen = kinds["human"] + kinds["no_human"]
    return chosen, np.arange(len(chosen)) < len(kinds["human"]), f"{len(chosen)} labelled photos that the head was not fitted on"


if __name__ == "__main__":
    main()
