"""Start here: the service (``python -m cosmop_human_detector``) and its job process (``... job``)."""

from __future__ import annotations

import asyncio
import signal

from cosmop_common.pb.cosmop.v1 import facts_pb2, human_detector_pb2, human_detector_pb2_grpc
from cosmop_common.runtime import Runtime, main
from cosmop_vision.runtime import wants_cuda
from cosmop_vision.settings import VisionSettings

from cosmop_human_detector.default import default_model
from cosmop_human_detector.following import Following
from cosmop_human_detector.models import Models
from cosmop_human_detector.screening import Screener
from cosmop_human_detector.service import HumanDetectorServicer
from cosmop_human_detector.settings import Settings
from cosmop_human_detector.worker import screen_unique


async def serve() -> None:
    """Screens unique images and answers gRPC until SIGTERM."""
    settings = Settings()
    async with Runtime("human-detector", settings) as runtime:
        models = Models(runtime.store, runtime.models, batch=settings.batch, seconds=settings.batch_milliseconds / 1000)
        await models.set_default(*await asyncio.to_thread(default_model, settings))
        screener = Screener(runtime.facts, runtime.store, runtime.collections, models)
        following = Following(runtime, models, screener, concurrency=settings.workers)
        await following.start()
        runtime.readiness("models", following.ready)
        servicer = HumanDetectorServicer(runtime.bus, runtime.runs, runtime.store, models, settings)
        runtime.serve(human_detector_pb2_grpc.add_HumanDetectorServicer_to_server, servicer, human_detector_pb2)
        runtime.consume("human-detector", facts_pb2.Deduplicated, screen_unique(screener), concurrency=settings.workers)
        await runtime.until_stopped()
        await models.close()


async def job(idle_seconds: float | None) -> None:
    """Trains until SIGTERM, or until no job came for so long. Under torchrun the first process does, and the others follow it."""
    import torch

    from cosmop_human_detector.follow import follow
    from cosmop_human_detector.jobs import train_human_detector
    from cosmop_human_detector.team import Team

    settings, vision = Settings(), VisionSettings()
    team = Team.join(torch.device("cuda" if wants_cuda(vision) else "cpu"))
    try:
        if team.rank:
            # torchrun tells every process to end; only the leader knows when that is.
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            follow(team, settings, vision)
            return
        async with Runtime("human-detector", settings, serving=False) as runtime:
            handlers = {"train_human_detector": train_human_detector(runtime.store, runtime.models, settings, team, vision)}
            await runtime.run_jobs(handlers, idle_seconds=idle_seconds)
    finally:
        team.leave()


if __name__ == "__main__":
    main(serve, job)
