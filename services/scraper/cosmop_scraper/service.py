"""The gRPC service ``cosmop.v1.Scraper``: starts jobs, shows them, ends them."""

from __future__ import annotations

from collections.abc import AsyncIterator

import grpc
from cosmop_common.errors import InvalidInputError
from cosmop_common.jobs import submit
from cosmop_common.pb.cosmop.v1 import runs_pb2, scraper_pb2, scraper_pb2_grpc
from cosmop_common.runtime import Runtime

from cosmop_scraper.options import plan, rehearse
from cosmop_scraper.settings import Settings
from cosmop_scraper.sources import SOURCES

Context = grpc.aio.ServicerContext[object, object]


_KIND = "scraper."


class NotAScrapeError(InvalidInputError):
    """A run of another service: it is that service's to show and to end."""


class ScraperServicer(scraper_pb2_grpc.ScraperServicer):
    """Thin: a job's work is done by job processes."""

    def __init__(self, runtime: Runtime, settings: Settings) -> None:
        self._runtime = runtime
        self._settings = settings

    async def SubmitJob(self, request: scraper_pb2.SubmitJobRequest, context: Context) -> runs_pb2.Run:  # noqa: ARG002, N802
        """Starts a scrape. What can be known to be wrong now is said now."""
        collection = await self._runtime.collections.get(request.collection)
        await rehearse(plan(request.scrape, collection.scrape, self._settings), self._settings)
        if request.run and (known := await self._runtime.runs.find(request.run)) is not None and not known.kind.startswith(_KIND):
            raise NotAScrapeError(f"run {request.run!r} exists and is of {known.kind}: choose another id, or none")
        job = runs_pb2.Job(run=request.run, collection=request.collection, scrape=request.scrape)
        return await submit(self._runtime.bus, self._runtime.runs, "scraper", job)

    async def GetJob(self, request: runs_pb2.GetRunRequest, context: Context) -> runs_pb2.Run:  # noqa: ARG002, N802
        """A run as it is."""
        return await self._scrape(request.run)

    async def ListJobs(self, request: runs_pb2.ListRunsRequest, context: Context) -> runs_pb2.ListRunsResponse:  # noqa: ARG002, N802
        """Runs of scrapes, newest first."""
        runs = await self._runtime.runs.list(request.collection, request.limit, kind=_KIND)
        return runs_pb2.ListRunsResponse(runs=runs)

    async def WatchJob(self, request: runs_pb2.WatchRunRequest, context: Context) -> AsyncIterator[runs_pb2.Run]:  # noqa: ARG002, N802
        """A run as it is, then each change, to its end."""
        await self._scrape(request.run)
        async for run in self._runtime.runs.watch(request.run):
            yield run

    async def CancelJob(self, request: runs_pb2.CancelRunRequest, context: Context) -> runs_pb2.Run:  # noqa: ARG002, N802
        """Asks for a run's end; what is in flight ends well."""
        await self._scrape(request.run)
        return await self._runtime.runs.cancel(request.run)

    async def ListSources(self, request: scraper_pb2.ListSourcesRequest, context: Context) -> scraper_pb2.ListSourcesResponse:  # noqa: ARG002, N802
        """All sources, and which of them can run here now."""
        answer = scraper_pb2.ListSourcesResponse()
        for name, source in SOURCES.items():
            reason = source.unavailable(self._settings)
            answer.sources.add(name=name, description=source.description, available=not reason, unavailable_because=reason)
        return answer

    async def _scrape(self, run: str) -> runs_pb2.Run:
        found = await self._runtime.runs.get(run)
        if not found.kind.startswith(_KIND):
            raise NotAScrapeError(f"run {run!r} is of {found.kind}, not of the scraper: ask that service")
        return found
