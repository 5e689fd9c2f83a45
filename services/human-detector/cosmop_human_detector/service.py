"""The gRPC servicer: translates and delegates."""

from __future__ import annotations

from collections.abc import AsyncIterator

import grpc
from cosmop_common.bus import Bus
from cosmop_common.errors import InvalidInputError
from cosmop_common.jobs import submit
from cosmop_common.pb.cosmop.v1 import human_detector_pb2 as pb
from cosmop_common.pb.cosmop.v1 import human_detector_pb2_grpc, runs_pb2
from cosmop_common.records import ModelCard
from cosmop_common.runs import Runs
from cosmop_common.store import Store

from cosmop_human_detector.models import Models
from cosmop_human_detector.ordered import in_order
from cosmop_human_detector.plan import Plan
from cosmop_human_detector.registry import GENERAL, list_cards
from cosmop_human_detector.settings import Settings

Context = grpc.aio.ServicerContext[object, object]


class HumanDetectorServicer(human_detector_pb2_grpc.HumanDetectorServicer):
    """``cosmop.v1.HumanDetector``."""

    def __init__(self, bus: Bus, runs: Runs, store: Store, models: Models, settings: Settings | None = None) -> None:
        self._bus = bus
        self._runs = runs
        self._store = store
        self._models = models
        self._settings = settings or Settings()

    async def Detect(self, request: pb.DetectRequest, context: Context) -> pb.DetectResponse:  # noqa: N802, ARG002 - gRPC's names
        """Does one image show people? By the general model."""
        return await self._detect(request)

    async def DetectStream(self, requests: AsyncIterator[pb.DetectRequest], context: Context) -> AsyncIterator[pb.DetectResponse]:  # noqa: N802, ARG002
        """The same for many images, answered in order, several at once."""
        async for answer in in_order(self._detect, requests):
            yield answer

    async def ListModels(self, request: pb.ListDetectorsRequest, context: Context) -> pb.ListDetectorsResponse:  # noqa: N802, ARG002
        """All registered human filters."""
        return pb.ListDetectorsResponse(models=[self._describe(card) for card in await list_cards(self._store)])

    async def ActivateModel(self, request: pb.ActivateDetectorRequest, context: Context) -> pb.Detector:  # noqa: N802, ARG002
        """Makes a version the active one of its name once it has passed its smoke test."""
        return self._describe((await self._models.activate(request.name, request.version)).card)

    async def Train(self, request: pb.TrainDetectorRequest, context: Context) -> runs_pb2.Run:  # noqa: N802, ARG002
        """Queues a training job; its run's result names the model."""
        Plan.of(request.train, self._settings)
        job = runs_pb2.Job(run=request.run, collection=request.collection, parent=request.parent, train_human_detector=request.train)
        return await submit(self._bus, self._runs, "human-detector", job)

    async def _detect(self, request: pb.DetectRequest) -> pb.DetectResponse:
        which = request.WhichOneof("image")
        if which is None:
            raise InvalidInputError("neither content nor id is set: send an image's bytes, or the sha256 of a stored one")
        data = request.content if which == "content" else await self._store.get_image(request.id)
        model = await self._models.resolve("")
        score = await model.score(data)
        threshold = model.card.threshold
        return pb.DetectResponse(people=score >= threshold, score=score, threshold=threshold, model=model.reference, uncertain=model.uncertain(score))

    def _describe(self, card: ModelCard) -> pb.Detector:
        collection = card.name.removeprefix(GENERAL).removeprefix("-")
        active = self._models.reference(collection) == f"{card.name}/{card.version}"
        missed, bound = card.details.get("miss_rate"), card.details.get("miss_rate_bound")
        return pb.Detector(
            name=card.name,
            version=card.version,
            active=active,
            threshold=card.threshold,
            card=card.model_dump_json(),
            miss_rate=missed,
            miss_rate_bound=bound,
        )
