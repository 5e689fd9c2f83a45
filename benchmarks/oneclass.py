"""Does the one-class default beat the paper's recipe on real photos? AUROC with 95 % intervals, all methods in one run.

    python -m benchmarks.oneclass [--photos DIR] [--network NAME] [--limit 0]
    python -m benchmarks.oneclass --scale 100000 [--map-images 10000]

Two questions on a folder of photos with ``labels.csv`` (columns ``file``, ``label``, ``concept``): the concept against other
pictures of people, and people against none. Half of the positive images, by the hash of their file's name, are trained on; the
other half and the negatives are scored. A quarter of the pictures without people is set aside as the background that ``logistic``
learns from, and scored by nobody. The default was given its k (10) on these photos: see docs/decisions.md.

The peer is the paper's preset, fitted by scikit-learn (``oneclass_paper.fit_svm``). It wants ResNet-50's feature map; where its
weights cannot be had it runs on efficientnet-lite0's, and the JSON says so (``preset_network``).

``--scale N`` asks another question: time and memory of fitting and scoring N images, on features drawn at random. The methods on
feature maps (the preset's PCA and SVM, patches) get ``--map-images`` of them, and the JSON says how time grows.
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
from cosmop_classifier.oneclass import OneClassFit, fit_background, fit_knn, fit_mahalanobis
from cosmop_classifier.oneclass_paper import fit_svm
from cosmop_classifier.oneclass_patches import fit_patches
from cosmop_common.records import Value
from cosmop_vision.errors import WeightsUnavailableError
from cosmop_vision.networks import find_network
from cosmop_vision.preprocess import Preprocessing
from cosmop_vision.runtime import Extractor
from cosmop_vision.settings import VisionSettings
from cosmop_vision.weights import weights_file
from numpy.typing import NDArray

from benchmarks import oneclass_scale, report

_PHOTOS = Path(__file__).resolve().parents[2] / "shared" / "photos"
_BATCH = 16
_PRESET, _INSTEAD = "resnet50", "efficientnet_lite0"
#: Positive training images and background images to a fitted head.
METHODS: dict[str, Callable[[Features, Features], OneClassFit]] = {
    "knn": lambda f, _: fit_knn(f.pooled),
    "mahalanobis": lambda f, _: fit_mahalanobis(f.pooled),
    "logistic": lambda f, background: fit_background(f.pooled, background.pooled),
    "patches": lambda f, _: fit_patches(_map(f)),
    "svm": lambda f, _: fit_svm(_map(f)),
}


def main() -> None:
    """Measures, prints and stores."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--photos", type=Path, default=_PHOTOS)
    parser.add_argument("--network", default=_INSTEAD, help="of our methods (default: %(default)s)")
    parser.add_argument("--concept", default="sport")
    parser.add_argument("--limit", type=int, default=0, help="at most so many photos, chosen by hash; 0: all")
    parser.add_argument("--scale", type=int, default=0, help="measure time and memory on so many random features instead")
    parser.add_argument("--map-images", type=int, default=10_000, help="with --scale: images of the methods on feature maps")
    arguments = parser.parse_args()
    if arguments.scale:
        oneclass_scale.run(arguments.scale, arguments.map_images)
    elif not (arguments.photos / "labels.csv").is_file():
        print(f"skipped: {arguments.photos} has no labels.csv; name a folder of photos with --photos")
    else:
        _on_photos(arguments.photos, arguments.network, arguments.concept, arguments.limit)


def _on_photos(photos: Path, network: str, concept_name: str, limit: int) -> None:
    rows = chosen(photos, limit)
    files, preset = [photos / row["file"] for row in rows], preset_network()
    started = time.perf_counter()
    features = look(network, files)
    of_preset = features if preset == network else look(preset, files)
    seconds = time.perf_counter() - started
    people = np.array([row["label"] == "human" for row in rows])
    concept = np.array([row["concept"] == concept_name for row in rows])
    named = np.array([bool(row["concept"]) for row in rows])
    background = ~people & np.array([_byte(row, "background") < 64 for row in rows])
    trained = np.array([_byte(row, "") % 2 == 0 for row in rows])
    questions = {f"{concept_name} against other": (concept, named), "human against no_human": (people, ~background)}
    results = {}
    for name, (truth, taking_part) in questions.items():
        print(name, flush=True)
        results[name] = answer(features, of_preset, truth, taking_part, trained, background)
    first = results[f"{concept_name} against other"]
    report.write(
        "oneclass",
        first["knn"]["auroc"]["value"],
        f"scikit-learn: the paper's preset on {preset}",
        importlib.metadata.version("scikit-learn"),
        first["svm"]["auroc"]["value"],
        "AUROC",
        len(rows),
        network=network,
        preset_network=preset,
        preset_is_exact=preset == _PRESET,
        least=min(result["knn"]["auroc"]["value"] for result in results.values()),
        background_images=int(background.sum()),
        results=results,
        feature_seconds=seconds,
    )


def preset_network() -> str:
    """The paper's network, or the one that needs no download where its weights cannot be had."""
    try:
        weights_file(find_network(_PRESET).weights, VisionSettings(weights_seconds=10))
    except WeightsUnavailableError as error:
        print(f"the paper's preset runs on {_INSTEAD}'s feature map: {error}", flush=True)
        return _INSTEAD
    return _PRESET


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
            print(f"{network}: {start} of {len(files)} photos", flush=True)
    return Features(np.concatenate(pooled), np.concatenate(maps))


def answer(
    features: Features,
    of_preset: Features,
    truth: NDArray[np.bool_],
    taking_part: NDArray[np.bool_],
    trained: NDArray[np.bool_],
    background: NDArray[np.bool_],
) -> dict[str, Any]:
    """Each method's measures on the images that it was not fitted on."""
    fitted_on, tested = np.nonzero(taking_part & truth & trained)[0], np.nonzero(taking_part & ~(truth & trained))[0]
    result: dict[str, Any] = {"trained": len(fitted_on), "tested": len(tested), "positive": int(truth[tested].sum())}
    for name, fit in METHODS.items():
        seen = of_preset if name == "svm" else features
        started = time.perf_counter()
        model = fit(_take(seen, fitted_on), _take(seen, np.nonzero(background)[0]))
        fitted = time.perf_counter()
        scores = np.concatenate([model.head.score(_take(seen, part)) for part in np.array_split(tested, 1 + len(tested) // 64)])
        values: dict[str, Value] = measure(truth[tested], scores >= model.threshold, scores)
        told = {"fit_seconds": fitted - started, "score_seconds": time.perf_counter() - fitted, "details": model.details}
        result[name] = {key: value.model_dump() for key, value in values.items()} | told
        auroc = values["auroc"]
        low, high = auroc.interval or (float("nan"), float("nan"))
        print(f"  {name}: AUROC {auroc.value:.3f} [{low:.3f}, {high:.3f}], accuracy {values['accuracy'].value:.3f}", flush=True)
    return result


def _byte(row: dict[str, str], salt: str) -> int:
    return hashlib.sha256((salt + row["file"]).encode()).digest()[0]


def _take(features: Features, rows: NDArray[np.int64]) -> Features:
    return Features(features.pooled[rows], _map(features)[rows].astype(np.float32))


def _map(features: Features) -> NDArray[np.float32]:
    assert features.feature_map is not None
    return features.feature_map


if __name__ == "__main__":
    main()
