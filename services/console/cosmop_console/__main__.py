"""The console: reads all facts, answers gRPC, serves the pages. ``job`` runs pipelines in a process of its own."""

from __future__ import annotations

from cosmop_common.pb.cosmop.v1 import console_pb2, runs_pb2
from cosmop_common.pb.cosmop.v1.console_pb2_grpc import add_ConsoleServicer_to_server
from cosmop_common.runtime import Runtime, main

from cosmop_console import database, web
from cosmop_console.labels import Labels
from cosmop_console.service_runs import ConsoleServicer
from cosmop_console.settings import Settings
from cosmop_console.thumbnails import Thumbnails
from cosmop_console.worker import Follower


async def serve() -> None:
    """Serves until SIGTERM."""
    settings = Settings()
    async with Runtime("console", settings) as runtime:
        catalog = database.connect(settings.console_data)
        follower = Follower(runtime.bus, catalog)
        labels = Labels(runtime.facts, runtime.store, runtime.collections, catalog)
        runtime.background(follower.run(runtime.stopping))
        runtime.readiness("read_model", lambda: follower.caught_up)
        thumbnails = Thumbnails(runtime.store, settings.console_data / "thumbnails")
        servicer = ConsoleServicer(runtime, follower, labels, catalog, thumbnails)
        runtime.serve(add_ConsoleServicer_to_server, servicer, console_pb2, runs_pb2)
        web.mount(runtime.http.app, runtime, follower, labels, catalog, thumbnails, hosts=settings.console_hosts)
        await runtime.until_stopped()


async def job(idle_seconds: float | None) -> None:
    """Takes pipeline jobs."""
    # The pipeline draws plots and speaks to every service: nothing that serves needs any of it.
    from cosmop_console.pipeline import run_pipeline

    async with Runtime("console", Settings(), serving=False) as runtime:
        await runtime.run_jobs({"pipeline": run_pipeline}, idle_seconds=idle_seconds)


if __name__ == "__main__":
    main(serve, job)
