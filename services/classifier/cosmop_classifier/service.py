"""``cosmop.v1.Classifier``: translates requests, asks the hub's models, and puts the training jobs on the queue."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from cosmop_common.bus import Bus
from cosmop_common.errors import CosmopError, InvalidInputError
from cosmop_common.jobs import submit
from cosmop_common.pb.cosmop.v1 import classifier_pb2, classifier_pb2_grpc, runs_pb2
from cosmop_common.records import ModelCard
from cosmop_common.runs import Runs
from cosmop_common.store import Store

from cosmop_classifier import registry
from cosmop_classifier.asking import Context, ask, deadline_of, hint_retry, image_of
from cosmop_classifier.batcher import QueueFullError
from cosmop_classifier.experiment_fair import check_fair
from cosmop_classifier.experiment_plan import check_experiment
from cosmop_classifier.explainer import Explainer
from cosmop_classifier.hub import Hub
from cosmop_classifier.plan import check_job
from cosmop_classifier.registry import BINARY, ONE_CLASS
from cosmop_classifier.review import Review
from cosmop_classifier.served import ServedModel
from cosmop_classifier.training_neighbours import TrainingNeighbours


class KindError(InvalidInputError):
    """A one-class model was asked for a probability."""


class ClassifierServicer(classifier_pb2_grpc.ClassifierServicer):
    """See ``proto/cosmop/v1/classifier.proto``."""

    def __init__(self, hub: Hub, store: Store, bus: Bus, runs: Runs, review: Review, *, stream_window: int = 32, explain_images: int = 2000) -> None:
        self._hub, self._store, self._bus, self._runs, self._review = hub, store, bus, runs, review
        self._explainer = Explainer(TrainingNeighbours(store, limit=explain_images))
        self._window = stream_window

    async def Classify(self, request: classifier_pb2.ClassifyRequest, context: Context) -> classifier_pb2.ClassifyResponse:  # noqa: N802
        """One image."""
        try:
            return await self._classify(request, deadline_of(context))
        except QueueFullError as error:
            hint_retry(context, error)
            raise

    async def ClassifyStream(  # noqa: N802
        self, request_iterator: AsyncIterator[classifier_pb2.ClassifyRequest], context: Context
    ) -> AsyncIterator[classifier_pb2.ClassifyResponse]:
        """Many images, a window of them in work at once, answered in their order."""
        deadline = deadline_of(context)
        queue: asyncio.Queue[asyncio.Task[classifier_pb2.ClassifyResponse] | None] = asyncio.Queue(self._window)

        async def read() -> None:
            try:
                async for request in request_iterator:
                    await queue.put(asyncio.create_task(self._answer(request, deadline)))
            finally:
                await queue.put(None)

        reader = asyncio.create_task(read())
        try:
            while (task := await queue.get()) is not None:
                yield await task
            await reader
        finally:
            reader.cancel()
            while not queue.empty():
                left = queue.get_nowait()
                if left is not None:
                    left.cancel()

    async def Explain(self, request: classifier_pb2.ExplainRequest, context: Context) -> classifier_pb2.ExplainResponse:  # noqa: N802
        """Where one image's verdict comes from."""
        try:
            return await self._explainer.explain(await self._model(request), await image_of(request, self._store), request.nearest, deadline_of(context))
        except QueueFullError as error:
            hint_retry(context, error)
            raise

    async def ListModels(self, request: classifier_pb2.ListModelsRequest, context: Context) -> classifier_pb2.ListModelsResponse:  # noqa: ARG002, N802
        """All registered versions."""
        cards = await registry.list_cards(self._store, request.collection)
        return classifier_pb2.ListModelsResponse(models=[self._message(card) for card in cards])

    async def GetModel(self, request: classifier_pb2.GetModelRequest, context: Context) -> classifier_pb2.Model:  # noqa: ARG002, N802
        """One version's card."""
        if not request.name:
            raise InvalidInputError("name is empty: name a model, such as immigration-binary")
        if request.version:
            return self._message(await registry.load_card(self._store, request.name, request.version))
        return self._message((await self._hub.get(request.name)).card)

    async def ActivateModel(self, request: classifier_pb2.ActivateModelRequest, context: Context) -> classifier_pb2.Model:  # noqa: ARG002, N802
        """Promotes a version, or goes back to one."""
        if not (request.name and request.version):
            raise InvalidInputError("name and version are both needed: ListModels gives them")
        return self._message((await self._hub.activate(request.name, request.version)).card)

    async def Train(self, request: classifier_pb2.TrainRequest, context: Context) -> runs_pb2.Run:  # noqa: ARG002, N802
        """Queues a training job; what is wrong with it is said now and not in an hour."""
        check_job(request.train)
        job = runs_pb2.Job(run=request.run, collection=request.collection or request.train.dataset.partition("/")[0], parent=request.parent)
        job.train_classifier.CopyFrom(request.train)
        return await submit(self._bus, self._runs, "classifier", job)

    async def StartExperiment(self, request: classifier_pb2.StartExperimentRequest, context: Context) -> runs_pb2.Run:  # noqa: ARG002, N802
        """Queues an augmentation experiment; one that would not be fair is refused now."""
        plan = check_experiment(request.experiment)
        await check_fair(self._store, plan)
        job = runs_pb2.Job(run=request.run, collection=request.collection or plan.collection, parent=request.parent)
        job.augmentation_experiment.CopyFrom(request.experiment)
        return await submit(self._bus, self._runs, "classifier", job)

    async def _answer(self, request: classifier_pb2.ClassifyRequest, deadline: float) -> classifier_pb2.ClassifyResponse:
        """For streams: an image that cannot be classified is an answer too. A full queue is waited for, the stream's caller waits as well."""
        while True:
            try:
                return await self._classify(request, deadline)
            except QueueFullError as error:
                await asyncio.sleep(error.retry_after)
            except CosmopError as error:
                return classifier_pb2.ClassifyResponse(tag=request.tag, error=f"{error.grpc_code.name}: {error}")

    async def _classify(self, request: classifier_pb2.ClassifyRequest, deadline: float) -> classifier_pb2.ClassifyResponse:
        model = await self._model(request)
        if model.card.kind != BINARY:
            raise KindError(f"{model.card.name} is a one-class model: ask its collection's binary one with one_class = true, or use ModelInfer")
        second = [await self._hub.get(registry.model_name(request.collection or model.card.collection, ONE_CLASS))] if request.one_class else []
        image = await image_of(request, self._store)
        verdict, *others = await ask([model, *second], image, deadline)
        self._review.note(image, model, verdict)
        response = classifier_pb2.ClassifyResponse(
            label=model.label(verdict.positive),
            positive=verdict.positive,
            probability=verdict.score,
            threshold=model.card.threshold,
            model=model.card.name,
            version=model.card.version,
            uncertain=verdict.uncertain,
            tag=request.tag,
        )
        for one_class, other in zip(second, others, strict=True):
            card = one_class.card
            response.one_class.CopyFrom(
                classifier_pb2.OneClassVerdict(positive=other.positive, score=other.score, threshold=card.threshold, model=card.name, version=card.version)
            )
        return response

    async def _model(self, request: classifier_pb2.ClassifyRequest | classifier_pb2.ExplainRequest) -> ServedModel:
        if not request.model and not request.collection:
            raise InvalidInputError("neither model nor collection is set: one of them says which classifier to ask")
        return await self._hub.get(request.model or registry.model_name(request.collection, BINARY), request.version)

    def _message(self, card: ModelCard) -> classifier_pb2.Model:
        return classifier_pb2.Model(
            name=card.name,
            version=card.version,
            kind=card.kind,
            active=self._hub.active_version(card.name) == card.version,
            classes=card.classes,
            threshold=card.threshold,
            card=card.model_dump_json(),
        )
