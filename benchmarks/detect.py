"""How many images a second does the human filter screen, decoding included, against eager torch in fp32 of the same network?

``python -m benchmarks.detect [--nanodet FILE] [--images N]``. Both sides decode the same files the same way and use as many threads as
the process has cores; rounds alternate, the best of each counts. Rates are per wall-clock second; ``cpu`` rates, cores over CPU seconds,
hold on a busy machine too. On labelled photos that the head was not fitted on, its accuracy stands beside NanoDet's where its file is named.
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
    options = parser.parse_args()
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
    data, people, what = unseen(options.photos, options.images, set(card.details["fitted_on"]))
    rates: dict[str, dict[str, float]] = {name: {"wall": 0.0, "cpu": 0.0} for name in rivals}
    scores: dict[str, NDArray[np.float64]] = {}
    for _ in range(ROUNDS):
        for name, detector in rivals.items():
            wall, cpu = time.perf_counter(), time.process_time()
            scores[name] = screen(detector, data)
            rates[name]["wall"] = max(rates[name]["wall"], len(data) / (time.perf_counter() - wall))
            rates[name]["cpu"] = max(rates[name]["cpu"], len(data) * CORES / (time.process_time() - cpu))
    extra: dict[str, Any] = {"rates": rates, "pictures": what, "difference": float(np.abs(scores["ours"] - scores["eager"]).max())}
    if people is not None:
        extra["accuracy"] = {name: {k: v.model_dump() for k, v in measure(scores[name], people, t).items()} for name, t in thresholds.items()}
        print({name: {key: round(value["value"], 3) for key, value in values.items()} for name, values in extra["accuracy"].items()})
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
