"""An explanation of one verdict: heat map, overlay, and the training images most like the image."""

from __future__ import annotations

import asyncio

from cosmop_common.errors import InvalidInputError
from cosmop_common.images import decode_rgb
from cosmop_common.pb.cosmop.v1 import classifier_pb2

from cosmop_classifier import explain, metrics
from cosmop_classifier.engine import Request
from cosmop_classifier.heads import Features
from cosmop_classifier.served import ServedModel, Verdict
from cosmop_classifier.training_neighbours import TrainingNeighbours

_NEAREST, _MOST = 5, 50


class NearestError(InvalidInputError):
    """More training images asked for than are given."""


class Explainer:
    """Puts the parts of an explanation together."""

    def __init__(self, neighbours: TrainingNeighbours) -> None:
        self._neighbours = neighbours

    async def explain(self, model: ServedModel, image: bytes, nearest: int, deadline: float) -> classifier_pb2.ExplainResponse:
        """Why ``model`` says of an image what it says.

        Args:
            image: encoded.
            nearest: training images to name; 0: five.
            deadline: on ``time.monotonic``'s clock.

        Raises:
            NearestError: more than 50.
            RefusedImageError, QueueFullError, DeadlinePassedError: see ``Engine.ask``.
        """
        if nearest > _MOST:
            raise NearestError(f"nearest is {nearest}: at most {_MOST} training images are named")
        with metrics.asking([model.card.name]):
            seen = await model.engine.ask(Request(image, (model.question,), features=True), deadline)
        assert seen.features is not None
        verdict = model.verdict(seen.scores[0])
        heat, picture = await asyncio.to_thread(_draw, model, image, seen.features, verdict)
        alike = await self._neighbours.nearest(model, seen.features, nearest or _NEAREST, deadline)
        height, width = heat.values.shape
        return classifier_pb2.ExplainResponse(
            model=model.card.name,
            version=model.card.version,
            positive=verdict.positive,
            score=verdict.score,
            threshold=model.card.threshold,
            heat_map=classifier_pb2.HeatMap(height=height, width=width, values=heat.values.ravel().tolist(), method=heat.method),
            overlay=picture,
            nearest=[classifier_pb2.TrainingNeighbour(image=name, similarity=cosine) for name, cosine in alike],
        )


def _draw(model: ServedModel, image: bytes, features: Features, verdict: Verdict) -> tuple[explain.HeatMap, bytes]:
    preprocessing = model.engine.preprocessing
    heat = explain.heat_map(model.head, features, positive=verdict.positive)
    return heat, explain.overlay(preprocessing.fitted(decode_rgb(image, at_least=preprocessing.resize)), heat)
