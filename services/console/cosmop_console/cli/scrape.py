"""``cosmop scrape``: a scrape job from the shell, with a live line for its source and for each host."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import grpc
from cosmop_common.collection import Collection
from cosmop_common.errors import InvalidInputError
from cosmop_common.pb.cosmop.v1 import console_pb2, runs_pb2, scraper_pb2
from cosmop_common.runs import ENDED
from rich.console import Console
from rich.live import Live

from cosmop_console.cli import scrape_view
from cosmop_console.cli.embedded import interruptible
from cosmop_console.cli.remote import RunFailedError, call, name_and_value, settings_of
from cosmop_console.cli.target import Target
from cosmop_console.cli.watch import say
from cosmop_console.clients import Services, known_error

_LINE_SECONDS = 5.0
_AWAY_SECONDS = 120.0
#: Rows of a terminal that are not hosts: header, total, "and more", status, a line to spare.
_OTHER_ROWS = 5
_DEFAULT_FILE = Path("collections/immigration.yaml")


@dataclass(frozen=True)
class Wish:
    """What is to be scraped; what is left empty or 0 the collection says."""

    queries: Sequence[str] = ()
    collection: str = ""
    source: str = ""
    images: int = 0
    size: int = 0
    seconds: float = 0.0
    options: Sequence[str] = ()
    run: str = ""


async def scrape(target: Target, wish: Wish) -> None:
    """Submits a scrape job, or goes on with one, and shows it to its end."""
    async with interruptible(), target.services() as services:
        collection = await _collection(services, wish.collection)
        job = runs_pb2.ScrapeJob(
            source=wish.source,
            queries=wish.queries,
            max_images=wish.images,
            max_bytes=wish.size,
            max_seconds=wish.seconds,
            options=dict(map(name_and_value, wish.options)),
        )
        run = await call("scraper", services.scraper.SubmitJob(scraper_pb2.SubmitJobRequest(collection=collection.name, scrape=job, run=wish.run)))
        say(f"run {run.id} of collection {collection.name}")
        try:
            ended = await _show(services, run, wish.source or collection.scrape.source)
        except asyncio.CancelledError:
            say(f"run {run.id} goes on: `cosmop scrape --cancel {run.id}` ends it")
            raise
    if ended.state != runs_pb2.RUN_STATE_SUCCEEDED:
        raise RunFailedError(ended.error or f"run {ended.id} was cancelled")


async def cancel(target: Target, run: str) -> None:
    """Ends a job; what is on its way ends well."""
    async with target.services() as services:
        ended = await call("scraper", services.scraper.CancelJob(runs_pb2.CancelRunRequest(run=run)))
    say(f"run {ended.id}: {runs_pb2.RunState.Name(ended.state).removeprefix('RUN_STATE_').lower()}" + (", ends soon" if ended.state not in ENDED else ""))


async def list_sources(target: Target) -> None:
    """All sources, and why one cannot run here."""
    async with target.services() as services:
        answer = await call("scraper", services.scraper.ListSources(scraper_pb2.ListSourcesRequest()))
    for source in answer.sources:
        say(f"{source.name:<10} {source.description}" + ("" if source.available else f"\n{'':<10} not here: {source.unavailable_because}"))


async def _show(services: Services, run: runs_pb2.Run, source: str) -> runs_pb2.Run:
    console, speed = Console(), scrape_view.Speed()
    if not console.is_terminal:
        ended = await _until_ended(services, run.id, Lines(source, speed).show)
        for line in scrape_view.lines(ended, source, scrape_view.Speed()):
            say(scrape_view.plain(line))
        say(scrape_view.estimate(ended, speed))
        return ended

    with Live(console=console, refresh_per_second=4) as live:

        def show(state: runs_pb2.Run) -> None:
            speed.add(scrape_view.find_stage(state).counts)
            live.update(scrape_view.table(state, source, speed, hosts=max(1, console.height - _OTHER_ROWS)))

        return await _until_ended(services, run.id, show)


async def _until_ended(services: Services, run: str, show: Callable[[runs_pb2.Run], None]) -> runs_pb2.Run:
    """The job goes on without whoever watches; a scraper that is away for a moment is asked again."""
    deadline = time.monotonic() + _AWAY_SECONDS
    while True:
        try:
            async for state in services.scraper.WatchJob(runs_pb2.WatchRunRequest(run=run)):
                deadline = time.monotonic() + _AWAY_SECONDS
                show(state)
                if state.state in ENDED:
                    return state
        except grpc.aio.AioRpcError as error:
            if error.code() != grpc.StatusCode.UNAVAILABLE or time.monotonic() > deadline:
                raise known_error(error, "scraper") from error
        await asyncio.sleep(1)


@dataclass
class Lines:
    """Prints all hosts in one line, every few seconds."""

    source: str
    speed: scrape_view.Speed
    _shown_at: float = 0.0

    def show(self, run: runs_pb2.Run) -> None:
        """Notes the run's counts, and prints them when a line is due."""
        self.speed.add(scrape_view.find_stage(run).counts)
        if run.state not in ENDED and time.monotonic() - self._shown_at > _LINE_SECONDS:
            self._shown_at = time.monotonic()
            say(scrape_view.status_line(run, self.source, self.speed))


async def _collection(services: Services, name: str) -> Collection:
    """The collection that is meant: by name, by file, or the only one that there is."""
    if name.endswith((".yaml", ".yml", ".json")):
        return await _put(services, Path(name))
    if not name:
        known = [c.name for c in (await call("console", services.console.ListCollections(console_pb2.ListCollectionsRequest()))).collections]
        if not known and await asyncio.to_thread(_DEFAULT_FILE.is_file):
            say(f"no collection yet: {_DEFAULT_FILE} is taken")
            return await _put(services, _DEFAULT_FILE)
        if len(known) != 1:
            what = f"there are {', '.join(sorted(known))}" if known else "there is none yet"
            raise InvalidInputError(f"which collection do the images join? {what}: name one with --collection NAME, or make one with --collection FILE.yaml")
        name = known[0]
    return await settings_of(services, name)


async def _put(services: Services, path: Path) -> Collection:
    collection = Collection.load(path)
    await call("console", services.console.PutCollection(console_pb2.PutCollectionRequest(yaml=collection.to_json())))
    return collection
