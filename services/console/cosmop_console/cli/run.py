"""``cosmop run``: from a collection, a folder of photos or a drawn world to a report."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import grpc
from cosmop_common.collection import Collection
from cosmop_common.errors import InvalidInputError
from cosmop_common.pb.cosmop.v1 import console_pb2, runs_pb2, scraper_pb2

from cosmop_console.cli.embedded import interruptible
from cosmop_console.cli.reports import fetch_report, summary
from cosmop_console.cli.target import Target, find, running_at
from cosmop_console.cli.watch import say, watch
from cosmop_console.clients import Services, known_error
from cosmop_console.photo_folder import PhotoFolder

_INCOMPLETE = 2
_LINES = 5


@dataclass(frozen=True)
class Plan:
    """What a run does."""

    collection: Collection
    folder: PhotoFolder | None = None
    #: Folder of labelled drawings that the human filter is fitted on.
    fit_on: str = ""
    provenance: str = ""


async def run_collection(collection: str, photos: Path | None, home: Path, endpoint: str) -> int:
    """Runs the whole pipeline and returns the exit status: 0, or 2 when a part of it could not be done."""
    began = time.monotonic()
    plan = await asyncio.to_thread(_plan, collection, photos, home)
    async with interruptible():
        if endpoint:
            if plan.folder:
                raise InvalidInputError("--photos shows a folder of this machine, which a cluster cannot see: leave out --endpoint, or give a collection")
            async with find(home, endpoint).services() as services:
                run = await _run(services, plan, None)
            return await _finish(find(home, endpoint), run, home, began)
        async with _embedded(home, plan) as (target, site):
            async with target.services() as services:
                run = await _run(services, plan, site)
            return await _finish(target, run, home, began)


def _plan(collection: str, photos: Path | None, home: Path) -> Plan:
    """What to do, checked before anything is started. Raises ``InvalidInputError``."""
    settings = Collection.load(Path(collection)) if collection else None
    if photos is not None:
        folder = PhotoFolder.read(photos)
        for line in folder.missing[:_LINES]:
            say(f"left out: {line}")
        if len(folder.missing) > _LINES:
            say(f"left out: {len(folder.missing) - _LINES} more lines like these")
        return Plan(
            settings or folder.collection(), folder, provenance=f"Photos of the folder {folder.path.name}, shown by a local stand-in of an image search."
        )
    if settings is not None:
        return Plan(settings)
    from cosmop_local.world import make_world

    world = home / "world"
    say(f"drawing a small world into {world} (first use only)")
    make_world(world)
    return Plan(
        Collection.load(world / "collection.yaml"), PhotoFolder.read(world / "photos"), str(world / "fit"),
        "These are drawings, made by a program so that the truth is known. They show that the system works, not how well it does on photos.",
    )  # fmt: skip


@contextlib.asynccontextmanager
async def _embedded(home: Path, plan: Plan) -> AsyncIterator[tuple[Target, str]]:
    """The embedded system of a folder: the one that runs, or one of our own; with the photos on show."""
    from cosmop_local.supervisor import System

    running = running_at(home)
    if running and plan.folder:
        raise InvalidInputError(f"a system runs in {home} already: end it (`cosmop down --home {home}`), or run in another folder with --home (make: OUT=dir)")
    if running:
        yield find(home, ""), ""
        return
    async with System(home, on_event=say) as system:
        site = await system.show_site(plan.folder.path, plan.collection.scrape.keywords) if plan.folder else ""
        yield Target.of(system.environment), site


async def _run(services: Services, plan: Plan, site: str | None) -> runs_pb2.Run:
    try:
        await services.console.PutCollection(console_pb2.PutCollectionRequest(yaml=plan.collection.to_json()))
        pipeline = runs_pb2.PipelineJob(provenance=plan.provenance, human_detector_data=plan.fit_on)
        request = console_pb2.StartPipelineRequest(collection=plan.collection.name, pipeline=pipeline)
        if plan.folder and site:
            scrape, how = await _scrape_of_site(services, plan, site)
            pipeline.scrape.CopyFrom(scrape)
            pipeline.provenance = f"{plan.provenance} {how}".strip()
            pipeline.truth = str(plan.folder.labels or "")
            pipeline.labels = str(plan.folder.labels or "") if plan.folder.concepts else ""
            request.run = f"{plan.collection.name}-{plan.folder.fingerprint(plan.collection)}"
        request.pipeline.CopyFrom(pipeline)
        run = await services.console.StartPipeline(request)
        say(f"run {run.id}")
        return await watch(services, run.id)
    except grpc.aio.AioRpcError as error:
        raise known_error(error, "console") from error


async def _scrape_of_site(services: Services, plan: Plan, site: str) -> tuple[runs_pb2.ScrapeJob, str]:
    """Reads the site with Chrome where there is one, else by plain HTTP; says which."""
    keywords = plan.collection.scrape.keywords or ("photos",)
    listed = await services.scraper.ListSources(scraper_pb2.ListSourcesRequest(), wait_for_ready=True, timeout=60)
    google = next(s for s in listed.sources if s.name == "google")
    if google.available:
        return runs_pb2.ScrapeJob(source="google", queries=keywords, options={"base_url": site}), "Read with Chrome under Selenium."
    how = f"Read by plain HTTP, because Chrome cannot be used: {google.unavailable_because}."
    say(how)
    return runs_pb2.ScrapeJob(source="web", queries=[f"{site}/search?q={k.replace(' ', '+')}" for k in keywords]), how


async def _finish(target: Target, run: runs_pb2.Run, home: Path, began: float) -> int:
    path = await fetch_report(target, run, home / "reports" / run.id)
    if path is None:
        raise InvalidInputError(run.error or f"run {run.id} was cancelled: nothing to report")
    say(summary(path.with_suffix(".json"), time.monotonic() - began))
    say(f"report: {path}")
    return 0 if run.state == runs_pb2.RUN_STATE_SUCCEEDED else _INCOMPLETE
