"""``cosmop run``: from a collection, a folder of photos or a drawn world to a report."""

from __future__ import annotations

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


async def run_plan(plan: Plan, home: Path, endpoint: str) -> int:
    """Runs the whole pipeline and returns the exit status: 0, or 2 when a part of it could not be done."""
    began = time.monotonic()
    async with interruptible():
        if endpoint:
            if plan.folder:
                raise InvalidInputError("--photos shows a folder of this machine, which a cluster cannot see: leave out --endpoint, or give a collection")
            target = find(home, endpoint)
            return await _finish(target, await run_on(target, plan, ""), home, began)
        async with _embedded(home, plan) as (target, site):
            return await _finish(target, await run_on(target, plan, site), home, began)


def make_plan(collection: str, photos: Path | None, home: Path, drawings: int) -> Plan:
    """What to do, checked before anything is started.

    Args:
        collection: a collection file; empty: what comes with the photos or drawings.
        photos: a folder of photos; None: drawings, or what the collection's own source finds.
        home: folder of the embedded system, where the drawings are kept.
        drawings: how many.

    Raises:
        InvalidInputError: a file or folder that cannot be used.
    """
    settings = Collection.load(Path(collection)) if collection else None
    if photos is not None:
        folder = PhotoFolder.read(photos)
        for line in folder.missing[:_LINES]:
            say(f"left out: {line}")
        if len(folder.missing) > _LINES:
            say(f"left out: {len(folder.missing) - _LINES} more lines like these")
        provenance = f"Photos of the folder {folder.path.name}, shown by a local stand-in of an image search."
        return Plan(settings or folder.collection(), folder, provenance=provenance)
    if settings is not None:
        return Plan(settings)
    return plan_drawings(home / "world", drawings)


def plan_drawings(world: Path, count: int, settings: Collection | None = None) -> Plan:
    """A run on a drawn world, which is made on first use; ``settings`` replace its own."""
    from cosmop_local.world import make_world

    if not world.exists():
        say(f"drawing a small world into {world}")
    make_world(world, count=count)
    return Plan(
        settings or Collection.load(world / "collection.yaml"), PhotoFolder.read(world / "photos"), str((world / "fit").resolve()),
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


async def run_on(target: Target, plan: Plan, site: str) -> runs_pb2.Run:
    """Starts the plan's run on a system, or goes on with it, and watches it to its end."""
    async with target.services() as services:
        return await _start_and_watch(services, plan, site)


async def _start_and_watch(services: Services, plan: Plan, site: str) -> runs_pb2.Run:
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
