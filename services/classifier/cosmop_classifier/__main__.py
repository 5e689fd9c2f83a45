"""``python -m cosmop_classifier`` serves; ``python -m cosmop_classifier job`` trains and experiments."""

from __future__ import annotations

from cosmop_common.pb.cosmop.v1 import classifier_pb2
from cosmop_common.pb.cosmop.v1.classifier_pb2_grpc import add_ClassifierServicer_to_server
from cosmop_common.pb.inference import grpc_service_pb2
from cosmop_common.pb.inference.grpc_service_pb2_grpc import add_GRPCInferenceServiceServicer_to_server
from cosmop_common.runtime import Runtime, main
from cosmop_common.tasks import run_until
from cosmop_vision.settings import VisionSettings

from cosmop_classifier.engine import Engines
from cosmop_classifier.hub import Hub
from cosmop_classifier.int8 import Int8
from cosmop_classifier.oip_service import InferenceServicer
from cosmop_classifier.review import Review
from cosmop_classifier.service import ClassifierServicer
from cosmop_classifier.settings import Settings


async def serve() -> None:
    """The serving process."""
    settings = Settings()
    engines = Engines(
        VisionSettings().cache,
        decode_threads=settings.decode_threads,
        max_batch=settings.max_batch,
        max_wait=settings.max_wait_ms / 1000,
        max_pending=settings.max_pending,
    )
    async with Runtime("classifier", settings) as runtime:
        review = Review(runtime.facts, runtime.store, settings.review)
        int8 = Int8(runtime.store, engines, agreement=settings.int8_agreement, loss=settings.int8_loss) if settings.int8 else None
        hub = Hub(runtime.store, runtime.models, engines, pinned=settings.pinned_models, int8=int8)
        runtime.serve(
            add_ClassifierServicer_to_server,
            ClassifierServicer(
                hub, runtime.store, runtime.bus, runtime.runs, review, stream_window=settings.stream_window, explain_images=settings.explain_images
            ),
            classifier_pb2,
        )
        runtime.serve(
            add_GRPCInferenceServiceServicer_to_server,
            InferenceServicer(hub, review, lambda: hub.settled, max_images=settings.max_request_images),
            grpc_service_pb2,
        )
        runtime.readiness("models", lambda: hub.settled)
        runtime.background(run_until(runtime.stopping, hub.watch()))
        runtime.background(review.run(runtime.stopping))
        await runtime.until_stopped()
    # After the runtime has drained: calls in flight still need the threads.
    engines.close()


async def job(idle_seconds: float | None) -> None:
    """The job process."""
    from cosmop_classifier.experiment import augmentation_experiment
    from cosmop_classifier.worker import train_classifier

    async with Runtime("classifier", Settings(), serving=False) as runtime:
        handlers = {
            "train_classifier": train_classifier(runtime.store, runtime.models),
            "augmentation_experiment": augmentation_experiment(runtime.bus, runtime.store),
        }
        await runtime.run_jobs(handlers, idle_seconds=idle_seconds)


if __name__ == "__main__":
    main(serve, job)
