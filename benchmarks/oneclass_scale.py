"""How one-class methods scale: seconds and memory of fitting N images of random features (``benchmarks.oneclass --scale N``).

Features are drawn around a thousand centres, so that neighbours mean something; the numbers say nothing of quality. Memory is the
process's resident set above what it was before the fit, sampled every 50 ms. The peer is what fits everything at once and scores
against every row: scikit-learn's brute-force ``NearestNeighbors`` on the same features, in the same process.
"""

from __future__ import annotations

import importlib.metadata
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from cosmop_classifier.heads import Features
from cosmop_classifier.oneclass import OneClassFit, fit_background, fit_knn, fit_mahalanobis
from cosmop_classifier.oneclass_paper import StreamedPaper
from cosmop_classifier.oneclass_patches import Patches
from numpy.typing import NDArray

from benchmarks import report

_SIZE = 1280
_MAP = (1280, 7, 7)
_CENTRES = 1000
_SCORED = 500
_CHUNK = 256
_SAMPLE = 2500
_SVM = 5000
_PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass
class Peak:
    """What a block of work took."""

    seconds: float = 0.0
    megabytes: float = 0.0


def run(images: int, map_images: int) -> None:
    """Measures and stores ``oneclass_scale.json``."""
    rng = np.random.default_rng(0)
    results, peer = _on_pooled(images, rng)
    results |= {
        "patches": _measured("patches", lambda: _patches(map_images, rng), None, map_images),
        "svm": _measured("svm", lambda: _paper(map_images, rng), None, map_images),
    }
    report.write(
        "oneclass_scale",
        results["knn"]["score_ms"],
        "scikit-learn: NearestNeighbors, brute force",
        importlib.metadata.version("scikit-learn"),
        peer,
        "ms an image",
        images,
        higher_is_better=False,
        map_images=map_images,
        results=results,
    )


def _on_pooled(images: int, rng: np.random.Generator) -> tuple[dict[str, Any], float]:
    """The methods on pooled features, and the peer's milliseconds an image."""
    centres = rng.standard_normal((_CENTRES, _SIZE)).astype(np.float32)
    pooled = np.empty((images, _SIZE), np.float32)
    for start in range(0, images, _CHUNK):
        pooled[start : start + _CHUNK] = _near(centres, min(_CHUNK, images - start), rng)
    asked, background = _near(centres, _SCORED, rng), rng.standard_normal((2000, _SIZE)).astype(np.float32)
    print(f"{images} features of {_SIZE} numbers: {pooled.nbytes / 2**20:.0f} MiB", flush=True)
    results = {
        "knn": _measured("knn", lambda: fit_knn(pooled), Features(asked), images),
        "mahalanobis": _measured("mahalanobis", lambda: fit_mahalanobis(pooled), Features(asked), images),
        "logistic": _measured("logistic", lambda: fit_background(pooled, background), Features(asked), images),
    }
    return results, _brute_force(pooled, asked)


def _near(centres: NDArray[np.float32], count: int, rng: np.random.Generator) -> NDArray[np.float32]:
    near: NDArray[np.float32] = centres[rng.integers(len(centres), size=count)] + rng.standard_normal((count, centres.shape[1]), dtype=np.float32)
    return np.maximum(near, 0, out=near)


def _measured(name: str, fit: Callable[[], OneClassFit], asked: Features | None, images: int) -> dict[str, Any]:
    with watched() as peak:
        found = fit()
    told: dict[str, Any] = {"images": images, "fit_seconds": peak.seconds, "fit_mib": peak.megabytes, "head_mib": len(found.head.to_bytes()) / 2**20}
    told["details"] = found.details
    if asked is not None:
        started = time.perf_counter()
        for row in asked.pooled:
            found.head.score(Features(row[None]))
        told["score_ms"] = (time.perf_counter() - started) / len(asked.pooled) * 1000
    print(f"  {name}: {images} images in {peak.seconds:.1f} s, {peak.megabytes:.0f} MiB; {told.get('score_ms', 0):.2f} ms an image", flush=True)
    return told


def _brute_force(pooled: NDArray[np.float32], asked: NDArray[np.float32]) -> float:
    from sklearn.neighbors import NearestNeighbors

    peer = NearestNeighbors(n_neighbors=10, metric="cosine", algorithm="brute").fit(pooled)
    few = asked[:10]
    started = time.perf_counter()
    for row in few:
        peer.kneighbors(row[None])
    return (time.perf_counter() - started) / len(few) * 1000


def _chunks(images: int, rng: np.random.Generator) -> Iterator[NDArray[np.float32]]:
    """Feature maps that come and go, as they do in a job; drawn once and shifted, because drawing them is not what is measured."""
    base = np.maximum(rng.standard_normal((_CHUNK, *_MAP), dtype=np.float32), 0)
    for number in range(-(-images // _CHUNK)):
        yield np.roll(base, number * 7919)[: min(_CHUNK, images - number * _CHUNK)]


def _patches(images: int, rng: np.random.Generator) -> OneClassFit:
    fitting = Patches(images)
    for chunk in _chunks(images, rng):
        fitting.learn(chunk)
    return fitting.finish()


def _paper(images: int, rng: np.random.Generator) -> OneClassFit:
    sample = np.concatenate([c.astype(np.float16) for c in _chunks(min(_SAMPLE, images), rng)])
    fitting = StreamedPaper(sample)
    for chunk in _chunks(images - len(sample), rng):
        fitting.learn(chunk)
    return fitting.finish(np.concatenate([fitting.reduce(chunk) for chunk in _chunks(min(_SVM, images), rng)]))


@contextmanager
def watched() -> Iterator[Peak]:
    """Seconds of a block, and how far the process's resident memory rose in it."""
    peak, ended, before, started = Peak(), threading.Event(), _resident(), time.perf_counter()

    def watch() -> None:
        while not ended.wait(0.05):
            peak.megabytes = max(peak.megabytes, _resident() - before)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield peak
    finally:
        ended.set()
        watcher.join()
        peak.seconds = time.perf_counter() - started


def _resident() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * _PAGE / 2**20
