"""The gRPC servicer of the catalog: collections, labels, the funnel, dataset versions, runs. Thin: translates and delegates."""

# gRPC gives the methods their names and their arguments.
# ruff: noqa: N802, ARG002
from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from typing import TypeAlias

import grpc
from cosmop_common.collection import Collection
from cosmop_common.pb.cosmop.v1 import console_pb2, console_pb2_grpc, runs_pb2
from cosmop_common.records import DatasetRecord
from cosmop_common.runtime import Runtime

from cosmop_console import datasets, erasure, funnel
from cosmop_console.labels import Label, Labels
from cosmop_console.thumbnails import Thumbnails
from cosmop_console.worker import Follower

Context: TypeAlias = "grpc.aio.ServicerContext[object, object]"


class CatalogServicer(console_pb2_grpc.ConsoleServicer):
    """All of the console's contract but pipelines and reports (``cosmop_console.service_runs``).

    Calls that answer from the read model first wait until it holds everything that was said before the call.
    """

    def __init__(self, runtime: Runtime, follower: Follower, labels: Labels, catalog: sqlite3.Connection, thumbnails: Thumbnails) -> None:
        self.runtime = runtime
        self.follower = follower
        self.labels = labels
        self.catalog = catalog
        self.thumbnails = thumbnails

    async def PutCollection(self, request: console_pb2.PutCollectionRequest, context: Context) -> console_pb2.Collection:
        """Creates or changes a collection."""
        collection = Collection.parse(request.yaml)
        return _collection(collection, await self.runtime.collections.put(collection))

    async def GetCollection(self, request: console_pb2.GetCollectionRequest, context: Context) -> console_pb2.Collection:
        """A collection's settings, defaults filled in."""
        return _collection(*await self.runtime.collections.entry(request.name))

    async def ListCollections(self, request: console_pb2.ListCollectionsRequest, context: Context) -> console_pb2.ListCollectionsResponse:
        """All collections by name."""
        entries = [await self.runtime.collections.entry(c.name) for c in self.runtime.collections.all()]
        return console_pb2.ListCollectionsResponse(collections=[_collection(*entry) for entry in entries])

    async def PutLabel(self, request: console_pb2.PutLabelRequest, context: Context) -> console_pb2.PutLabelResponse:
        """One label."""
        await self.follower.catch_up()
        written = await self.labels.put(_label(request, "console"))
        return console_pb2.PutLabelResponse(ulid=written.ulid)

    async def ImportLabels(self, request: AsyncIterator[console_pb2.PutLabelRequest], context: Context) -> console_pb2.ImportLabelsResponse:
        """Many labels; what cannot be labelled is reported and stops nothing."""
        await self.follower.catch_up()

        async def labels() -> AsyncIterator[Label]:
            async for one in request:
                yield _label(one, "import")

        outcome = await self.labels.put_all(labels())
        return console_pb2.ImportLabelsResponse(imported=outcome.imported, unchanged=outcome.unchanged, refused=sorted(outcome.refused))

    async def GetFunnel(self, request: console_pb2.GetFunnelRequest, context: Context) -> console_pb2.Funnel:
        """What became of every download of a collection."""
        await self.runtime.collections.get(request.collection)
        await self.follower.catch_up()
        return funnel_message(funnel.count(self.catalog, request.collection))

    async def FreezeDataset(self, request: console_pb2.FreezeDatasetRequest, context: Context) -> console_pb2.DatasetVersion:
        """Freezes what is labelled now; the same content again is the same version."""
        collection = await self.runtime.collections.get(request.collection)
        await self.follower.catch_up()
        return _version(await datasets.freeze(self.runtime.store, self.catalog, collection, self.follower.positions))

    async def ListDatasets(self, request: console_pb2.ListDatasetsRequest, context: Context) -> console_pb2.ListDatasetsResponse:
        """The dataset versions of a collection, newest first."""
        await self.runtime.collections.get(request.collection)
        records = await datasets.versions(self.runtime.store, request.collection)
        return console_pb2.ListDatasetsResponse(datasets=[_version(r) for r in records])

    async def Erase(self, request: console_pb2.EraseRequest, context: Context) -> console_pb2.EraseResponse:
        """Tombstones, then the deletion of bytes and caches."""
        await self.follower.catch_up()
        wanted = erasure.Request(request.collection, request.images, request.reason, request.requested_by, request.everywhere)
        done, cleared = await erasure.erase(self.runtime.facts, self.runtime.store, self.catalog, wanted, self.thumbnails.forget)
        images = [console_pb2.ErasedImage(image=o.image, collections=o.collections, used_by=o.used_by, held_by=o.held_by) for o in done]
        return console_pb2.EraseResponse(images=images, cleared=cleared)

    async def GetRun(self, request: runs_pb2.GetRunRequest, context: Context) -> runs_pb2.Run:
        """A run as it stands, of any service."""
        return await self.runtime.runs.get(request.run)

    async def ListRuns(self, request: runs_pb2.ListRunsRequest, context: Context) -> runs_pb2.ListRunsResponse:
        """Runs of all services, newest first."""
        return runs_pb2.ListRunsResponse(runs=await self.runtime.runs.list(request.collection, request.limit))

    async def WatchRun(self, request: runs_pb2.WatchRunRequest, context: Context) -> AsyncIterator[runs_pb2.Run]:
        """The run as it is, then each change, until it has ended."""
        async for run in self.runtime.runs.watch(request.run):
            yield run

    async def CancelRun(self, request: runs_pb2.CancelRunRequest, context: Context) -> runs_pb2.Run:
        """Asks for a run's end."""
        return await self.runtime.runs.cancel(request.run)


def funnel_message(counts: funnel.Funnel) -> console_pb2.Funnel:
    """The counts as the contract has them."""
    return console_pb2.Funnel(
        scraped=counts.scraped, rejected=counts.rejected, unique=counts.unique, duplicates=counts.duplicates, people=counts.people, none=counts.none,
        pending=counts.pending, failed=counts.failed, erased=counts.erased, labelled=counts.labelled, unscreened=counts.unscreened,
    )  # fmt: skip


def _collection(collection: Collection, revision: int) -> console_pb2.Collection:
    return console_pb2.Collection(name=collection.name, revision=revision, json=collection.to_json())


def _label(request: console_pb2.PutLabelRequest, origin: str) -> Label:
    return Label(request.collection, request.image, request.labeller, request.label, request.unsure, request.origin or origin)


def _version(record: DatasetRecord) -> console_pb2.DatasetVersion:
    splits = {f"{split}/{label}": n for split, labels in record.splits.items() for label, n in labels.items()}
    manifest = datasets.manifest_key(record.collection, record.version)
    return console_pb2.DatasetVersion(collection=record.collection, version=record.version, images=sum(splits.values()), splits=splits, manifest=manifest)
