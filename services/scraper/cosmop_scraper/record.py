"""What is said of each completed download: the bytes first, then ``Scraped``, then ``Sighted``.

That order is what a kill at any moment is survived by (``seen``): bytes without a fact are fetched again, a ``Scraped``
without its ``Sighted`` holds it inside.
"""

from __future__ import annotations

from enum import StrEnum

from cosmop_common.errors import reason_name
from cosmop_common.facts import Facts, now
from cosmop_common.pb.cosmop.v1 import facts_pb2

from cosmop_scraper.depot import Depot
from cosmop_scraper.download import Download
from cosmop_scraper.location import location_of
from cosmop_scraper.seen import Seen
from cosmop_scraper.verify import Finding


class Outcome(StrEnum):
    """What a completed download was."""

    NEW = "new"
    DUPLICATE = "duplicate"
    REFUSED = "refused"
    ERASED = "erased"


class Recorder:
    """Says what came of each download of one run."""

    def __init__(self, facts: Facts, depot: Depot, seen: Seen, *, collection: str, run: str, source: str, keep_location: bool = False) -> None:
        self._facts = facts
        self._depot = depot
        self._seen = seen
        self._collection = collection
        self._run = run
        self._source = source
        self._keep_location = keep_location

    async def record(self, download: Download, finding: Finding) -> tuple[Outcome, str]:
        """Stores and publishes; returns the outcome and, for a refusal, its reason's word.

        Raises:
            StorageFullError, UnreachableError: nothing was lost; the URL counts as not downloaded.
        """
        sighting = self._sighting(download, finding)
        if self._seen.is_erased(finding.image):
            # That it was met again is said, and nothing about anybody.
            for field in ("title", "author", "licence", "page_url", "query"):
                sighting.ClearField(field)
            await self._facts.create(sighting)
            return Outcome.ERASED, ""
        if finding.refusal is None:
            # Stored under the id that the verifier counted, beside the event loop.
            await self._depot.put(finding.image, download.body, finding.info.media_type)
        scraped = facts_pb2.Scraped(
            collection=self._collection,
            image=finding.image,
            at=sighting.at,
            size=len(download.body),
            media_type=finding.info.media_type,
            width=finding.info.width,
            height=finding.info.height,
            refusal=finding.refusal,
            run=self._run,
            sighting=sighting,
            location=location_of(download.body) if self._keep_location and finding.refusal is None else None,
        )
        new = await self._facts.create(scraped)
        await self._facts.create(sighting)
        if not new:
            return Outcome.DUPLICATE, ""
        return (Outcome.REFUSED, reason_name(finding.refusal.reason)) if finding.refusal else (Outcome.NEW, "")

    def _sighting(self, download: Download, finding: Finding) -> facts_pb2.Sighted:
        candidate = download.candidate
        return facts_pb2.Sighted(
            collection=self._collection,
            image=finding.image,
            at=now(),
            source=self._source,
            query=candidate.query,
            page_url=candidate.page_url,
            image_url=candidate.image_url,
            final_url=download.final_url,
            http_status=download.status,
            content_type=download.content_type,
            licence=candidate.licence,
            author=candidate.author,
            title=candidate.title,
            robots=download.robots.decision,
            robots_detail=download.robots.detail,
            run=self._run,
        )
