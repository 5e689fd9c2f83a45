"""Start here: settings, the roles of this process, run until SIGTERM, drain."""

from __future__ import annotations

import logging

from cosmop_common.pb.cosmop.v1 import dedup_pb2, dedup_pb2_grpc, facts_pb2
from cosmop_common.runtime import Runtime, main
from cosmop_common.tasks import run_until

from cosmop_dedup.erased import Tombstones
from cosmop_dedup.keeper import Keeper
from cosmop_dedup.service import DedupServicer
from cosmop_dedup.settings import Settings
from cosmop_dedup.worker import HashWorker, IndexWorker

log = logging.getLogger(__name__)


async def serve() -> None:
    """One process: the role ``hash``, the role ``index``, or both."""
    settings = Settings()
    async with Runtime("dedup", settings) as runtime:
        tombstones = Tombstones(runtime.facts)
        await tombstones.load()
        keeper = await _index(runtime, settings, tombstones) if "index" in settings.roles else None
        runtime.background(run_until(runtime.stopping, tombstones.follow(keeper.erased if keeper else None)))
        if "hash" in settings.roles:
            worker = HashWorker(runtime.facts, runtime.store, runtime.collections, tombstones)
            runtime.consume("dedup-hash", facts_pb2.Scraped, worker.scraped, concurrency=settings.workers)
        runtime.serve(dedup_pb2_grpc.add_DedupServicer_to_server, DedupServicer(runtime.store, keeper), dedup_pb2)
        await runtime.until_stopped()


async def _index(runtime: Runtime, settings: Settings, tombstones: Tombstones) -> Keeper:
    """The role ``index``: rebuilt from the facts, then fed."""
    changes = runtime.collections.changes()
    keeper = Keeper(runtime.facts, runtime.collections, tombstones, publishers=settings.dedup_publishers)
    log.info("index rebuilt", extra={"images": await keeper.rebuild()})
    runtime.background(run_until(runtime.stopping, keeper.catch_up()))
    runtime.background(run_until(runtime.stopping, keeper.follow_rules(changes)))
    runtime.consume("dedup-index", facts_pb2.Hashed, IndexWorker(keeper).hashed, concurrency=1)
    return keeper


if __name__ == "__main__":
    main(serve)
