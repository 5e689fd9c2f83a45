"""What a scrape job means: its own words, and the collection's where it has none."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

from cosmop_common.collection import ScrapeSettings
from cosmop_common.errors import InvalidInputError
from cosmop_common.pb.cosmop.v1 import runs_pb2

from cosmop_scraper.candidate import Source, SourceContext
from cosmop_scraper.errors import SourceOptionError, SourceUnavailableError
from cosmop_scraper.fetch import Fetcher
from cosmop_scraper.politeness import Politeness
from cosmop_scraper.settings import Settings
from cosmop_scraper.sources import source_named


class BudgetError(InvalidInputError):
    """A budget that is no amount."""


class NoQueriesError(InvalidInputError):
    """Neither the job nor its collection says what to search for."""


@dataclass(frozen=True)
class Plan:
    """A scrape job with nothing left open."""

    source: type[Source]
    queries: tuple[str, ...]
    options: Mapping[str, str]
    scrape: ScrapeSettings
    #: Budgets; 0 is no bound.
    images: int
    size: int
    seconds: float

    def seconds_left(self, run: runs_pb2.Run) -> float:
        """Of the time budget, earlier attempts counted; 0 is no bound."""
        if not self.seconds:
            return 0.0
        return max(self.seconds - max(0.0, time.time() - run.started.ToMilliseconds() / 1000), 1e-3)


def plan(job: runs_pb2.ScrapeJob, scrape: ScrapeSettings, settings: Settings) -> Plan:
    """Fills in a job from its collection.

    The collection's options belong to the collection's source; a job that names another one starts with none.

    Raises:
        UnknownSourceError, SourceUnavailableError, SourceOptionError, NoQueriesError, BudgetError: it cannot be run, and why.
    """
    if not 0 <= job.max_seconds < float("inf"):
        raise BudgetError(f"max_seconds is {job.max_seconds}: expected seconds, or 0 for no bound")
    name = job.source or scrape.source
    source = source_named(name)
    options = ({**scrape.options} if name == scrape.source else {}) | dict(job.options)
    if unknown := sorted(set(options) - set(source.options)):
        known = ", ".join(sorted(source.options)) or "none"
        raise SourceOptionError(f"source {name} has no option {', '.join(map(repr, unknown))}: known are {known}")
    if reason := source.unavailable(settings):
        raise SourceUnavailableError(f"source {name} cannot run here: {reason}")
    queries = tuple(dict.fromkeys(q.strip() for q in (job.queries or scrape.keywords) if q.strip()))
    if not queries:
        raise NoQueriesError("the job has no queries and its collection no keywords: name at least one")
    return Plan(source, queries, options, scrape, job.max_images or scrape.max_images, job.max_bytes, job.max_seconds)


async def rehearse(plan: Plan, settings: Settings) -> None:
    """Makes the source and lets it go again: what it says of its options' values is said before the job begins.

    Raises:
        SourceOptionError: a value that it cannot use.
    """

    async def keep(name: str, data: bytes, media_type: str) -> str:  # noqa: ARG001 - the interface of keeping
        return name

    scrape = plan.scrape
    fetcher = Fetcher(settings, Politeness(1, 1), respect_robots=scrape.respect_robots, allow_private=scrape.allow_private_addresses)
    try:
        await plan.source(SourceContext(settings, scrape, plan.options, fetcher, keep, plan.images)).close()
    finally:
        await fetcher.close()
