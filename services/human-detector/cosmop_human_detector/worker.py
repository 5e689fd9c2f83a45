"""The consumers: each ``Deduplicated`` in, its ``Screened`` out; and each change of model, for the images it concerns."""

from __future__ import annotations

import asyncio
import logging

from cosmop_common.consume import Delivery, Handler
from cosmop_common.errors import CosmopError
from cosmop_common.facts import Facts
from cosmop_common.pb.cosmop.v1 import facts_pb2

from cosmop_human_detector.screening import Screener

log = logging.getLogger(__name__)


def screen_unique(screener: Screener) -> Handler[facts_pb2.Deduplicated]:
    """The handler of the consumer "human-detector": images that are kept are screened, copies of others are not."""

    async def handle(fact: facts_pb2.Deduplicated, delivery: Delivery) -> None:
        if fact.kind == facts_pb2.DUPLICATE_KIND_UNIQUE:
            await screener.screen(fact.collection, fact.image, delivery.sequence)

    return handle


async def rescreen_collection(facts: Facts, screener: Screener, collection: str, *, concurrency: int) -> int:
    """Screens anew what another model than the collection's has screened. Returns how many facts changed.

    Replicas of the service do this at the same time: each looks at the stored fact right before it computes.
    """
    gate = asyncio.Semaphore(concurrency)

    async def one(stored_fact: facts_pb2.Deduplicated, sequence: int) -> bool:
        try:
            return await screener.rescreen(stored_fact.collection, stored_fact.image, sequence)
        except CosmopError as error:
            log.warning("%s/%s keeps its word of the earlier model: %s", stored_fact.collection, stored_fact.image, error)
            return False
        finally:
            gate.release()

    changed = 0
    tasks: set[asyncio.Task[bool]] = set()
    async for stored in facts.replay(facts_pb2.Deduplicated, collection):
        if stored.fact.kind != facts_pb2.DUPLICATE_KIND_UNIQUE:
            continue
        await gate.acquire()
        done = {task for task in tasks if task.done()}
        changed += sum(task.result() for task in done)
        tasks -= done
        tasks.add(asyncio.create_task(one(stored.fact, stored.sequence)))
    return changed + sum(await asyncio.gather(*tasks))
