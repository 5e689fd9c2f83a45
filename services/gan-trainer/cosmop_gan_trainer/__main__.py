"""The gan-trainer service. ``serve`` (no argument): gRPC and HTTP; ``job``: trains and generates, one job after the other."""

from __future__ import annotations

import os
import signal

from cosmop_common.pb.cosmop.v1 import gan_trainer_pb2, gan_trainer_pb2_grpc
from cosmop_common.runtime import Runtime, main

from cosmop_gan_trainer.service import SERVICE, GanTrainerServicer
from cosmop_gan_trainer.settings import Settings


async def serve() -> None:
    """Answers calls until SIGTERM; imports no torch."""
    async with Runtime(SERVICE, Settings()) as runtime:
        servicer = GanTrainerServicer(runtime.bus, runtime.runs, runtime.store)
        runtime.serve(gan_trainer_pb2_grpc.add_GanTrainerServicer_to_server, servicer, gan_trainer_pb2)
        await runtime.until_stopped()


async def job(idle_seconds: float | None) -> None:
    """Takes jobs until SIGTERM, or until none came for so long. Under torchrun the first process does, and the others follow it."""
    # Read by OpenMP when torch is loaded. Threads that spin while they wait for each other make training many times slower
    # where other processes want the same cores (measured with 16 of them on two cores: 1,845 against 140 s/kimg).
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from cosmop_gan_trainer.follow import follow
    from cosmop_gan_trainer.team import Team
    from cosmop_gan_trainer.worker import choose_device, handlers

    settings = Settings()
    device = choose_device(settings.gan_device)
    team = Team.join(device)
    try:
        if team.rank:
            # torchrun tells every process to end; only the leader knows when that is.
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            follow(team, device)
            return
        async with Runtime(SERVICE, settings, serving=False) as runtime:
            await runtime.run_jobs(handlers(settings, runtime.store, team), idle_seconds=idle_seconds)
    finally:
        team.leave()


if __name__ == "__main__":
    main(serve, job)
