"""One attempt at a scrape job: a source's candidates on one side, facts on the other, budgets and gates in between.

One task reads the source; each candidate becomes a task of its own that waits for its host's turn, so that a slow host
holds up nobody else. What is on its way is bounded in number (``backlog``) and in bytes (``memory_bytes``).
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from contextlib import aclosing

from cosmop_common.errors import CosmopError, InvalidInputError
from cosmop_common.run_handle import RunHandle, StageHandle
from cosmop_common.tasks import end_tasks

from cosmop_scraper.budget import Budget
from cosmop_scraper.candidate import Candidate, Source
from cosmop_scraper.download import Download, Downloader
from cosmop_scraper.errors import FetchError, NothingFoundError, UnsupportedUrlError
from cosmop_scraper.options import Plan
from cosmop_scraper.patience import Network, StorePatience
from cosmop_scraper.peers import Peers
from cosmop_scraper.pressure import Memory, Pressure
from cosmop_scraper.queries import Queries
from cosmop_scraper.record import Outcome, Recorder
from cosmop_scraper.seen import Seen, url_digest
from cosmop_scraper.tally import Tally
from cosmop_scraper.url import parse_url
from cosmop_scraper.verify import Finding

log = logging.getLogger(__name__)

_POLL_SECONDS = 0.2
_LOCAL = "local files"


@dataclasses.dataclass
class Scrape:
    """What one attempt works with; ``work`` does it."""

    run: RunHandle
    stage: StageHandle
    plan: Plan
    source: Source
    downloader: Downloader
    recorder: Recorder
    seen: Seen
    peers: Peers
    pressure: Pressure
    memory: Memory
    tally: Tally
    queries: Queries
    network: Network
    stores: StorePatience
    backlog: asyncio.Semaphore
    _downloads: set[asyncio.Task[None]] = dataclasses.field(default_factory=set)
    _records: set[asyncio.Task[tuple[Outcome, str]]] = dataclasses.field(default_factory=set)
    _fatal: BaseException | None = None
    _proven: bool = False

    def __post_init__(self) -> None:
        """Takes over what earlier attempts have used of the budget."""
        seconds = self.plan.seconds_left(self.run.state)
        self._fetched_before = self.tally["fetched"]
        self._budget = Budget(images=self.plan.images, size=self.plan.size, seconds=seconds, new=self.tally["new"], fetched=self.tally["bytes"])

    async def work(self) -> None:
        """Reads the source to its end, or to the end of a budget, and waits for all downloads.

        Raises:
            CosmopError: the source failed, a store is full or away, or the job was told to end.
        """
        reader = asyncio.create_task(self._read())
        try:
            while not reader.done() and not self._ends():
                await asyncio.wait({reader}, timeout=_POLL_SECONDS)
                self._publish()
                await self._prove_progress()
            await end_tasks([reader])
            await self._drain()
        finally:
            self._publish()
        self.run.check()
        if self._fatal:
            raise self._fatal
        if not reader.cancelled():
            reader.result()
        self.stage.set(message=self._budget.spent or "all that the source has")

    async def _prove_progress(self) -> None:
        """Writes the first progress of an attempt at once: a process that is killed soon, again and again, is not a fruitless one."""
        if not self._proven and self.tally["fetched"] > self._fetched_before:
            self._proven = True
            await self.run.flush()

    def _told_to_end(self) -> bool:
        return self.run.cancelled.is_set() or self.run.stopping.is_set() or self._fatal is not None

    def _ends(self) -> bool:
        return self._told_to_end() or bool(self._budget.spent)

    async def _read(self) -> None:
        """Asks the source for each query that is not done yet; one that fails lets the others have their turn."""
        failure: CosmopError | None = None
        for query in self.plan.queries:
            if self.queries.done(query):
                continue
            try:
                async with aclosing(self.source.find(query)) as candidates:
                    async for candidate in candidates:
                        if not await self._take(query, candidate):
                            return
            except (FetchError, InvalidInputError) as error:
                log.warning("query %r failed: %s", query, error)
                failure = failure or error
                continue
            self.queries.exhaust(query)
        if failure:
            raise failure
        if not self.tally["found"] and not self.queries.any_done:
            raise NothingFoundError(f"{self.source.name} finds no images for {', '.join(map(repr, self.plan.queries))}: check the spelling, or try other words")

    async def _take(self, query: str, candidate: Candidate) -> bool:
        """Starts a download once there is room for it; False when the budget is used up."""
        number, host = self.queries.begin(query), _LOCAL
        if candidate.path is None:
            try:
                url = parse_url(candidate.image_url)
            except UnsupportedUrlError as error:
                log.info("%s", error)
                self.tally.add("no host", found=1, failed=1, failed_url=1)
                self.queries.settle(query, number)
                return True
            host, candidate = url.host, dataclasses.replace(candidate, image_url=str(url))
        self.tally.add(host, found=1)
        if not self.seen.add(candidate.image_url):
            self.tally.add(host, known=1)
            self.queries.settle(query, number)
            return True
        await self.pressure.wait()
        await self.memory.wait()
        await self.backlog.acquire()
        if not await self._budget.admit():
            self.backlog.release()
            return False
        task = asyncio.create_task(self._one(query, number, host, candidate))
        self._downloads.add(task)
        task.add_done_callback(self._downloads.discard)
        return True

    async def _one(self, query: str, number: int, host: str, candidate: Candidate) -> None:
        """A download from start to fact; what fails is counted, and a store that is away ends the job."""
        new, size, digest = False, 0, url_digest(candidate.image_url)
        try:
            if not await self.peers.claim(digest):
                self.tally.add(host, known=1)
                self.queries.settle(query, number)
                return
            download = await self.downloader.download(candidate)
            size = len(download.body)
            outcome, reason = await self._record(download)
            new = outcome is Outcome.NEW
            self.tally.add(host, fetched=1, bytes=size, **{f"refused_{reason}" if reason else outcome.value: 1})
            self.queries.settle(query, number)
        except FetchError as error:
            log.info("%s", error)
            self.tally.add(host, failed=1, **{f"failed_{error.why}": 1})
            self.queries.settle(query, number)
        except Exception as error:  # noqa: BLE001 - the store or NATS is away: no further download would fare better
            self._fatal = self._fatal or error
        finally:
            self.peers.settle(digest)
            self.backlog.release()
            await self._budget.settle(new=new, size=size)

    async def _record(self, download: Download) -> tuple[Outcome, str]:
        with self.memory.share(len(download.body)):
            finding = await self.downloader.look(download)
            return await self.stores.insist(lambda: self._say(download, finding), self._told_to_end)

    async def _say(self, download: Download, finding: Finding) -> tuple[Outcome, str]:
        # In a task of its own: a job told to end must not leave half of it unsaid.
        record = asyncio.create_task(self.recorder.record(download, finding))
        self._records.add(record)
        record.add_done_callback(self._records.discard)
        return await asyncio.shield(record)

    async def _drain(self) -> None:
        """Waits for downloads on their way; a job told to end drops them, but what they have begun to say is said."""
        while self._downloads and not self._told_to_end():
            await asyncio.wait(set(self._downloads), timeout=_POLL_SECONDS)
            self._publish()
        for task in self._downloads:
            task.cancel()
        if left := self._downloads | self._records:
            await asyncio.wait(left)

    def _publish(self) -> None:
        waits = [f"{self.source.name}: {self.tally.rate():.1f} images/s"]
        if self.pressure.holding:
            waits.append("pauses for the stages behind it")
        if self.network.away:
            waits.append("waits for the network, which is away")
        if self.stores.waiting_for:
            waits.append(f"waits: {self.stores.waiting_for}")
        self.stage.set(done=self.tally["fetched"], message="; ".join(waits), **self.tally.snapshot())
