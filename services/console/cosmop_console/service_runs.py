"""Runs of the whole pipeline and their reports: the rest of the console's contract."""

# gRPC gives the methods their names and their arguments.
# ruff: noqa: N802, ARG002
from __future__ import annotations

import hashlib

from cosmop_common.jobs import submit
from cosmop_common.names import report_key
from cosmop_common.pb.cosmop.v1 import console_pb2, runs_pb2

from cosmop_console import funnel
from cosmop_console.service import CatalogServicer, Context, funnel_message


class ConsoleServicer(CatalogServicer):
    """All of the console's contract."""

    async def StartPipeline(self, request: console_pb2.StartPipelineRequest, context: Context) -> runs_pb2.Run:
        """Starts a run of the whole pipeline, or goes on with one.

        Without an id the run is named after what it does, so that the same request again is the same run.
        """
        collection, revision = await self.runtime.collections.entry(request.collection)
        what = request.pipeline.SerializeToString(deterministic=True) + f"{revision}".encode()
        run = request.run or f"{collection.name}-{hashlib.sha256(what).hexdigest()[:12]}"
        job = runs_pb2.Job(run=run, collection=collection.name, pipeline=request.pipeline)
        return await submit(self.runtime.bus, self.runtime.runs, "console", job)

    async def BuildReport(self, request: console_pb2.BuildReportRequest, context: Context) -> console_pb2.Report:
        """Makes a run's report anew."""
        # Plots are wanted here alone: the pages start without them.
        from cosmop_console.report import build_report

        run = await self.runtime.runs.get(request.run)
        await self.follower.catch_up()
        counts = funnel_message(funnel.count(self.catalog, run.collection))
        keys = await build_report(self.runtime.bus, self.runtime.store, run.id, counts)
        return console_pb2.Report(run=run.id, html_key=keys.html_key, json_key=keys.json_key)

    async def GetReport(self, request: console_pb2.BuildReportRequest, context: Context) -> console_pb2.Report:
        """Where a run's report lies. NOT_FOUND when it has none yet."""
        key = report_key(request.run, "report.json")
        await self.runtime.store.get(key)
        return console_pb2.Report(run=request.run, html_key=report_key(request.run, "report.html"), json_key=key)
