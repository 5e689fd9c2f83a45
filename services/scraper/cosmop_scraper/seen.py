"""What a collection knows already: URLs that were downloaded, and images that were erased.

Rebuilt from the facts when a job starts, so that no URL is fetched twice whatever happened to the job before. Three
words end a download, in this order: the bytes in the store, ``Scraped``, ``Sighted``. A scraper killed after the first
fetches the URL again; one killed after the second left its sighting inside ``Scraped``, and it is published here.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging

from cosmop_common.facts import Facts
from cosmop_common.pb.cosmop.v1 import facts_pb2
from cosmop_common.tasks import end_tasks

log = logging.getLogger(__name__)


def url_digest(url: str) -> bytes:
    """64 bits of a URL's sha256: the same that end the subject of its sighting."""
    return hashlib.sha256(url.encode()).digest()[:8]


class Seen:
    """URLs and erased images of one collection. Empty until ``rebuild``; ``stop`` it."""

    def __init__(self) -> None:
        self._urls: set[bytes] = set()
        self._erased: set[str] = set()
        self._task: asyncio.Task[None] | None = None

    async def rebuild(self, facts: Facts, collection: str, *, respect_robots: bool) -> None:
        """Reads all sightings, heals what a dead scraper left half said, and follows erasures from here on.

        Args:
            respect_robots: False lets URLs through again that were refused by a rule now overridden.
        """
        sighted: set[str] = set()
        async for sighting in facts.replay(facts_pb2.Sighted, collection):
            sighted.add(sighting.fact.image)
            if respect_robots or sighting.fact.robots != facts_pb2.ROBOTS_DECISION_FORBIDDEN:
                self.add(sighting.fact.image_url)
        async for scraped in facts.replay(facts_pb2.Scraped, collection):
            if scraped.fact.image not in sighted and scraped.fact.HasField("sighting"):
                log.info("a sighting that a dead scraper left unsaid is published", extra={"image": scraped.fact.image})
                await facts.create(scraped.fact.sighting)
                self.add(scraped.fact.sighting.image_url)
        last = 0
        async for erasure in facts.replay(facts_pb2.Erased, collection):
            self._erased.add(erasure.fact.image)
            last = erasure.sequence
        self._task = asyncio.create_task(self._follow(facts, collection, last))

    def add(self, url: str) -> bool:
        """Notes a URL; returns whether it is new."""
        digest = url_digest(url)
        if digest in self._urls:
            return False
        self._urls.add(digest)
        return True

    def hear(self, digest: bytes) -> None:
        """Another scraper has a URL, by its digest."""
        self._urls.add(digest)

    def is_erased(self, image: str) -> bool:
        """Whether somebody asked that this image be kept and used no more."""
        return image in self._erased

    async def stop(self) -> None:
        """Ends following."""
        if self._task is not None:
            await end_tasks([self._task])

    async def _follow(self, facts: Facts, collection: str, after: int) -> None:
        async for erasure in facts.follow(facts_pb2.Erased, collection, after=after):
            self._erased.add(erasure.fact.image)
