"""A network ready to run: ONNX Runtime behind a batcher. Models that share a network (same bytes) share its engine.

So a binary and a one-class model on the same frozen network cost one pass through it, and their requests fill one batch.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

import numpy as np
from cosmop_vision.onnx_session import OnnxSession
from cosmop_vision.preprocess import Preprocessing
from numpy.typing import NDArray

from cosmop_classifier import metrics
from cosmop_classifier.batcher import Batcher
from cosmop_classifier.heads import Features, Head

Array = NDArray[np.float32]


@dataclass(frozen=True)
class Question:
    """A head that is to score an image, and the model that it is of."""

    model: str
    head: Head


@dataclass(frozen=True)
class Request:
    """One image: encoded, or preprocessed already (3, size, size)."""

    image: bytes | Array
    questions: tuple[Question, ...] = ()
    #: Give back the features as well, the map included.
    features: bool = False


@dataclass(frozen=True)
class Seen:
    """What came of a request."""

    #: One for each question, before calibration.
    scores: tuple[float, ...]
    features: Features | None


@dataclass(frozen=True)
class _Prepared:
    pixels: Array
    request: Request


class Engine:
    """One network at one input size."""

    def __init__(self, session: OnnxSession, preprocessing: Preprocessing, batcher_settings: dict[str, Any]) -> None:
        self._session = session
        self.preprocessing = preprocessing
        self._batcher: Batcher[Request, _Prepared, Seen] = Batcher(self._prepare, self._run, **batcher_settings)

    async def ask(self, request: Request, deadline: float = float("inf")) -> Seen:
        """What the network and its heads say of one image; features are of shape (1, ...).

        Args:
            request: the image, and who is asked.
            deadline: on ``time.monotonic``'s clock.

        Raises:
            RefusedImageError: the bytes are no image.
            QueueFullError: too much is waiting.
            DeadlinePassedError: its turn did not come in time.
        """
        return await self._batcher.submit(request, deadline=deadline)

    @property
    def pending(self) -> int:
        """Images between admission and answer."""
        return self._batcher.pending

    def run(self, pixels: Array, *, with_map: bool) -> Features:
        """Features of preprocessed images (n, 3, size, size), past the queue: for smoke tests."""
        outputs = self._session.run(pixels, ["pooled", "map"] if with_map else ["pooled"])
        return Features(outputs[0], outputs[1] if with_map else None)

    def _prepare(self, request: Request) -> _Prepared:
        pixels = self.preprocessing.array_of_bytes(request.image) if isinstance(request.image, bytes) else request.image
        return _Prepared(pixels, request)

    def _run(self, batch: list[_Prepared]) -> Sequence[Seen]:
        """One pass through the network; each head scores at once all the images that it is asked about."""
        started = time.perf_counter()
        with_map = any(p.request.features or any(q.head.needs_map for q in p.request.questions) for p in batch)
        features = self.run(np.stack([p.pixels for p in batch]), with_map=with_map)
        asked: dict[int, tuple[Question, list[int]]] = {}
        for i, prepared in enumerate(batch):
            for question in prepared.request.questions:
                asked.setdefault(id(question.head), (question, []))[1].append(i)
        scores = {(i, key): score for key, (question, rows) in asked.items() for i, score in zip(rows, _score(question.head, features, rows), strict=True)}
        seconds = time.perf_counter() - started
        for question, _ in asked.values():
            metrics.BATCH_IMAGES.labels(question.model).observe(len(batch))
            metrics.BATCH_SECONDS.labels(question.model).observe(seconds)
        return [
            Seen(tuple(scores[i, id(q.head)] for q in p.request.questions), _rows(features, [i]) if p.request.features else None) for i, p in enumerate(batch)
        ]


def _score(head: Head, features: Features, rows: list[int]) -> list[float]:
    return [float(score) for score in head.score(_rows(features, rows))]


def _rows(features: Features, rows: list[int]) -> Features:
    return Features(features.pooled[rows], None if features.feature_map is None else features.feature_map[rows])


class Engines:
    """Engines by what they run. One that no loaded model uses any more is collected, after its last answer."""

    def __init__(self, cache: Path, *, decode_threads: int = 0, max_batch: int = 16, max_wait: float = 0.002, max_pending: int = 256) -> None:
        """``cache`` is a folder for network files; a restarted process finds them there."""
        self._cache = cache
        self._live: WeakValueDictionary[tuple[str, Preprocessing], Engine] = WeakValueDictionary()
        self._sessions: WeakValueDictionary[str, OnnxSession] = WeakValueDictionary()
        self._pool = ThreadPoolExecutor(decode_threads or len(os.sched_getaffinity(0)), thread_name_prefix="decode")
        self._device = ThreadPoolExecutor(1, thread_name_prefix="network")
        self._batching: dict[str, Any] = {"pool": self._pool, "device": self._device, "max_batch": max_batch, "max_wait": max_wait, "max_pending": max_pending}

    def get(self, network: bytes, preprocessing: Preprocessing) -> Engine:
        """The engine of a network's file. Blocking: loading takes up to seconds.

        Raises:
            ExportError: the file does not load in ONNX Runtime.
        """
        sha256 = hashlib.sha256(network).hexdigest()
        engine = self._live.get((sha256, preprocessing))
        if engine is None:
            session = self._sessions.get(sha256) or OnnxSession(self._file(network, sha256))
            self._sessions[sha256] = session
            engine = Engine(session, preprocessing, self._batching)
            self._live[(sha256, preprocessing)] = engine
        return engine

    def close(self) -> None:
        """Ends the threads after the work in flight."""
        self._pool.shutdown(wait=True)
        self._device.shutdown(wait=True)

    def _file(self, network: bytes, sha256: str) -> Path:
        """The network as a local file: ONNX Runtime maps files, and pods that restart need not write it again."""
        folder = self._cache / "models"
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{sha256}.onnx"
        if not path.is_file() or path.stat().st_size != len(network):
            partial_file = path.with_suffix(f".{os.getpid()}")
            partial_file.write_bytes(network)
            partial_file.replace(path)
        return path
