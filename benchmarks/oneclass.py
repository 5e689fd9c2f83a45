"""Does the one-class default beat the paper's recipe on real photos? AUROC with 95 % intervals, both in one run.

    python -m benchmarks.oneclass [--photos DIR] [--network efficientnet_lite0] [--limit 0]

Two questions on a folder of photos with ``labels.csv`` (columns ``file``, ``label``, ``concept``): the concept against other
pictures of people, and people against none. Half of the positive images, by the hash of their file's name, are trained on; the
other half and all negatives are scored. The peer is the paper's preset, fitted by scikit-learn exactly as ``oneclass.fit_svm`` does.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import importlib.metadata
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from cosmop_classifier.features import decode
from cosmop_classifier.heads import Features
from cosmop_classifier.measures import measure
from cosmop_classifier.oneclass import OneClassFit, fit_knn, fit_mahalanobis
from cosmop_classifier.oneclass_paper import fit_svm
from cosmop_common.records import Value
from cosmop_vision.networks import find_network
from cosmop_vision.preprocess import Preprocessing
from cosmop_vision.runtime import Extractor
from numpy.typing import NDArray

from benchmarks import report

_PHOTOS = Path(__file__).resolve().parents[2] / "shared" / "photos"
_BATCH = 16
METHODS: dict[str, Callable[[Features], OneClassFit]] = {
    "knn": lambda f: fit_knn(f.pooled),
    "mahalanobis": lambda f: fit_mahalanobis(f.pooled),
    "svm": lambda f: fit_svm(_map(f)),
}


def main() -> None:
    """Measures, prints and stores."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--photos", type=Path, default=_PHOTOS)
    parser.add_argument("--network", default="efficientnet_lite0")
    parser.add_argument("--concept", default="sport")
    parser.add_argument("--limit", type=int, default=0, help="at most so many photos, chosen by hash; 0: all")
    arguments = parser.parse_args()
    rows = chosen(arguments.photos, arguments.limit)
    started = time.perf_counter()
    features = look(arguments.network, [arguments.photos / row["file"] for row in rows])
    seconds = time.perf_counter() - started
    people = [row["label"] == "human" for row in rows]
    concept = [row["concept"] == arguments.concept for row in rows]
    named = [bool(row["concept"]) for row in rows]
    questions = {
        f"{arguments.concept} against other": (np.array(concept), np.array(named)),
        "human against no_human": (np.array(people), np.ones(len(rows), dtype=bool)),
    }
    trained = np.array([hashlib.sha256(row["file"].encode()).digest()[0] % 2 == 0 for row in rows])
    results = {name: answer(features, truth, taking_part, trained) for name, (truth, taking_part) in questions.items()}
    first = results[f"{arguments.concept} against other"]
    report.write(
        "oneclass",
        first["knn"]["auroc"]["value"],
        "scikit-learn: the paper's preset",
        importlib.metadata.version("scikit-learn"),
        first["svm"]["auroc"]["value"],
        "AUROC",
        len(rows),
        network=arguments.network,
        results=results,
        feature_seconds=seconds,
    )


def chosen(photos: Path, limit: int) -> list[dict[str, str]]:
    """The labelled photos, in an order that depends on their names alone."""
    with (photos / "labels.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    rows.sort(key=lambda row: hashlib.sha256(b"limit" + row["file"].encode()).digest())
    return rows[: limit or len(rows)]


def look(network: str, files: Sequence[Path]) -> Features:
    """Features of photos, feature maps at half precision."""
    extractor = Extractor.create(network, ("pooled", "map"))
    preprocessing = Preprocessing.of(find_network(network))
    pooled, maps = [], []
    for start in range(0, len(files), _BATCH):
        outputs = extractor.run(decode(preprocessing, [f.read_bytes() for f in files[start : start + _BATCH]]))
        pooled.append(outputs["pooled"])
        maps.append(outputs["map"].astype(np.float16))
        if start % (_BATCH * 10) == 0:
            print(f"{start} of {len(files)} photos", flush=True)
    return Features(np.concatenate(pooled), np.concatenate(maps))


def answer(features: Features, truth: NDArray[np.bool_], taking_part: NDArray[np.bool_], trained: NDArray[np.bool_]) -> dict[str, Any]:
    """Each method's measures on the images that it was not fitted on."""
    fitted_on, tested = taking_part & truth & trained, np.nonzero(taking_part & ~(truth & trained))[0]
    result: dict[str, Any] = {"trained": int(fitted_on.sum()), "tested": len(tested), "positive": int(truth[tested].sum())}
    for name, fit in METHODS.items():
        started = time.perf_counter()
        model = fit(_take(features, np.nonzero(fitted_on)[0]))
        scores = np.concatenate([model.head.score(_take(features, part)) for part in np.array_split(tested, 1 + len(tested) // 64)])
        values: dict[str, Value] = measure(truth[tested], scores >= model.threshold, scores)
        result[name] = {key: value.model_dump() for key, value in values.items()} | {"seconds": time.perf_counter() - started, "details": model.details}
        auroc = values["auroc"]
        print(f"  {name}: AUROC {auroc.value:.3f} {auroc.interval}, accuracy {values['accuracy'].value:.3f}", flush=True)
    return result


def _take(features: Features, rows: NDArray[np.int64]) -> Features:
    return Features(features.pooled[rows], _map(features)[rows].astype(np.float32))


def _map(features: Features) -> NDArray[np.float32]:
    assert features.feature_map is not None
    return features.feature_map


if __name__ == "__main__":
    main()
