"""The evaluator: ``serve`` answers gRPC and loads no network; ``job`` evaluates in a process of its own."""

from __future__ import annotations

from cosmop_common.pb.cosmop.v1 import fid_evaluator_pb2, runs_pb2
from cosmop_common.pb.cosmop.v1.fid_evaluator_pb2_grpc import add_FidEvaluatorServicer_to_server
from cosmop_common.runtime import Runtime, main

from cosmop_fid_evaluator.service import Evaluations
from cosmop_fid_evaluator.settings import SERVICE, Settings


async def serve() -> None:
    """Serves until SIGTERM."""
    async with Runtime(SERVICE, Settings()) as runtime:
        runtime.serve(add_FidEvaluatorServicer_to_server, Evaluations(runtime), fid_evaluator_pb2, runs_pb2)
        await runtime.until_stopped()


async def job(idle_seconds: float | None) -> None:
    """Takes evaluations from the queue."""
    # scipy and the feature networks: nothing that serves needs them.
    from cosmop_fid_evaluator.worker import Evaluator

    settings = Settings()
    async with Runtime(SERVICE, settings, serving=False) as runtime:
        evaluator = Evaluator(runtime.store, settings.features_chunk, shared_from=settings.features_shared_from, silence=settings.ack_wait)
        await runtime.run_jobs({"evaluate": evaluator, "extract_features": evaluator.extract}, idle_seconds=idle_seconds)


if __name__ == "__main__":
    main(serve, job)
