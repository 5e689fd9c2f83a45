"""What Prometheus is told of each model."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import grpc
from cosmop_common.errors import CosmopError
from prometheus_client import Counter, Gauge, Histogram

_SECONDS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10)
_OUTCOMES = {
    grpc.StatusCode.RESOURCE_EXHAUSTED: "rejected",
    grpc.StatusCode.DEADLINE_EXCEEDED: "expired",
    grpc.StatusCode.INVALID_ARGUMENT: "invalid",
}

IMAGES = Counter(
    "cosmop_classifier_images_total", "Images that a model was asked about: ok, rejected, expired, invalid, cancelled, failed.", ["model", "outcome"]
)
SECONDS = Histogram("cosmop_classifier_image_seconds", "Seconds from asking to the answer, of images that were answered.", ["model"], buckets=_SECONDS)
WAITING = Gauge("cosmop_classifier_waiting", "Images between asking and answer.", ["model"])
BATCH_IMAGES = Histogram("cosmop_classifier_batch_images", "Images run at once.", ["model"], buckets=(1, 2, 4, 8, 16, 32, 64))
BATCH_SECONDS = Histogram("cosmop_classifier_batch_seconds", "Seconds that network and heads took for a batch.", ["model"], buckets=_SECONDS)
LOADS = Counter("cosmop_classifier_loads_total", "Model versions loaded, by outcome.", ["model", "outcome"])
ACTIVE = Gauge("cosmop_classifier_active", "1 for the version of each model that is served.", ["model", "version"])
REVIEWS = Counter("cosmop_classifier_reviews_total", "Uncertain answers: queued for people, or why not.", ["model", "outcome"])


@contextmanager
def asking(models: list[str]) -> Iterator[None]:
    """Counts and times one image that these models are asked about."""
    started, outcome = time.perf_counter(), "cancelled"
    for model in models:
        WAITING.labels(model).inc()
    try:
        yield
        outcome = "ok"
    except CosmopError as error:
        outcome = _OUTCOMES.get(error.grpc_code, "failed")
        raise
    except Exception:
        outcome = "failed"
        raise
    finally:
        for model in models:
            WAITING.labels(model).dec()
            IMAGES.labels(model, outcome).inc()
            if outcome == "ok":
                SECONDS.labels(model).observe(time.perf_counter() - started)
