"""The first half of the pipeline: from keywords to a frozen dataset version."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

from cosmop_common.errors import CosmopError, NotReadyError, UnreachableError
from cosmop_common.pb.cosmop.v1 import console_pb2, human_detector_pb2, runs_pb2, scraper_pb2

from cosmop_console.label_import import FolderLabels, read_folder
from cosmop_console.pipeline_context import Context, finished

_POLL_SECONDS = 0.7
_STALLED_SECONDS = 240.0
_LABELLER = "import"


class StalledError(UnreachableError):
    """A stage behind the scraper makes no progress."""


async def fit_filter(context: Context) -> None:
    """Fits the human filter's head for this collection, where the job names images to fit it on."""
    if not context.job.human_detector_data:
        return
    with context.stage("fit", unit="images") as stage:
        run = context.child("fit")
        train = runs_pb2.TrainHumanDetectorJob(data=[context.job.human_detector_data], miss_rate=0.05)
        request = human_detector_pb2.TrainDetectorRequest(collection=context.collection.name, train=train, run=run, parent=context.handle.id)
        await context.call("human-detector", lambda: context.services.human_detector.Train(request))
        ended = await context.follow(run, "fit")
        stage.set(message="")
        stage.result(**dict(ended.result))


async def collect_images(context: Context) -> None:
    """Scrapes; meanwhile the stages behind drain what comes. Done when every download has its outcome."""
    if not finished(context.handle, "scrape"):
        context.handle.edit("collect", _begin)
    done_scraping, done_deduplicating = asyncio.Event(), asyncio.Event()
    with context.stage("collect"):
        results = await asyncio.gather(
            _scrape(context, done_scraping),
            _drain(context, "dedup", done_scraping, done_deduplicating),
            _drain(context, "screen", done_deduplicating, asyncio.Event()),
            return_exceptions=True,
        )
        for result in results:
            if isinstance(result, BaseException):
                raise result


async def _scrape(context: Context, done: asyncio.Event) -> None:
    try:
        if finished(context.handle, "scrape"):
            return
        with context.stage("scrape", unit="images"):
            run = context.child("scrape")
            scrape = context.job.scrape if context.job.HasField("scrape") else _scrape_of(context)
            request = scraper_pb2.SubmitJobRequest(collection=context.collection.name, scrape=scrape, run=run)
            await context.call("scraper", lambda: context.services.scraper.SubmitJob(request))
            await context.follow(run, {"scrape": "scrape"})
    finally:
        done.set()


def _scrape_of(context: Context) -> runs_pb2.ScrapeJob:
    settings = context.collection.scrape
    return runs_pb2.ScrapeJob(source=settings.source, queries=settings.keywords, max_images=settings.max_images, options=settings.options)


async def _drain(context: Context, name: str, before: asyncio.Event, done: asyncio.Event) -> None:
    """Shows how far a stage is, until the stage before it has ended and nothing waits any more."""
    try:
        with context.stage(name, unit="images") as stage:
            moved, last = time.monotonic(), -1
            while True:
                was_complete = before.is_set()
                funnel = await context.funnel()
                waiting = funnel.pending if name == "dedup" else funnel.unscreened
                total = funnel.scraped if name == "dedup" else funnel.unique
                stage.set(done=total - waiting, total=total)
                stage.counts(_counts(name, funnel))
                if was_complete and not waiting:
                    if not funnel.scraped:
                        raise NotReadyError("nothing was scraped: check the source, its keywords and the run's messages")
                    return
                if total - waiting != last:
                    moved, last = time.monotonic(), total - waiting
                if was_complete and time.monotonic() - moved > _STALLED_SECONDS:
                    raise StalledError(
                        f"{waiting} images have waited {_STALLED_SECONDS:.0f} s for {name}: is its service up? Its log and `cosmop status` say more"
                    )
                context.handle.check()
                await asyncio.sleep(_POLL_SECONDS)
    finally:
        done.set()


async def import_labels(context: Context) -> None:
    """Imports the labels that the job names, as a person's labels."""
    if not context.job.labels:
        return
    with context.stage("label", unit="labels") as stage:
        found: FolderLabels = await asyncio.to_thread(read_folder, Path(context.job.labels))
        stage.set(total=len(found.labels))

        async def requests() -> AsyncIterator[console_pb2.PutLabelRequest]:
            stage.set(done=0)
            for label in found.labels:
                yield console_pb2.PutLabelRequest(collection=context.collection.name, image=label.image, labeller=_LABELLER, label=label.label, origin="import")
                stage.advance()

        answer = await context.call("console", lambda: context.services.console.ImportLabels(requests()))
        refused = [*found.refused, *answer.refused]
        stage.set(imported=answer.imported, unchanged=answer.unchanged, refused=len(refused), message="; ".join(refused[:3]))
        if found.labels and not answer.imported and not answer.unchanged:
            raise CosmopError(f"none of the {len(found.labels)} labels of {context.job.labels} could be imported: {refused[0]}")


async def freeze(context: Context) -> None:
    """Freezes a dataset version of what is labelled."""
    with context.stage("freeze", unit="images") as stage:
        request = console_pb2.FreezeDatasetRequest(collection=context.collection.name)
        version = await context.call("console", lambda: context.services.console.FreezeDataset(request))
        stage.set(done=version.images, total=version.images)
        stage.counts(version.splits)
        stage.result(dataset=f"{version.collection}/{version.version}")


def _counts(stage: str, funnel: console_pb2.Funnel) -> dict[str, int]:
    if stage == "screen":
        return {"people": funnel.people, "none": funnel.none}
    return {"unique": funnel.unique, **funnel.duplicates, **{f"refused_{reason}": n for reason, n in funnel.rejected.items()}}


def _begin(stage: runs_pb2.Stage) -> None:
    stage.state = runs_pb2.RUN_STATE_RUNNING
