"""One candidate to what came of it: fetched or read, judged by robots rules, verified as an image. Knows no NATS and no store."""

from __future__ import annotations

import asyncio
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from cosmop_common.collection import ScrapeSettings
from cosmop_common.images import ImageInfo
from cosmop_common.names import sha256_hex
from cosmop_common.pb.cosmop.v1 import facts_pb2

from cosmop_scraper.candidate import Candidate
from cosmop_scraper.errors import FetchError, RobotsForbiddenError
from cosmop_scraper.fetch import Fetched, Fetcher
from cosmop_scraper.robots import FORBIDDEN, Verdict, judge_tags
from cosmop_scraper.verify import Finding, verify


class UnreadableFileError(FetchError):
    """A local file that cannot be read."""

    why = "unreadable"
    transient = False


@dataclass(frozen=True, slots=True)
class Download:
    """One completed download: what was asked, and what came."""

    candidate: Candidate
    robots: Verdict
    final_url: str = ""
    status: int = 0
    content_type: str = ""
    #: Empty when nothing was kept: cut off by the cap, or forbidden by robots rules.
    body: bytes = b""
    #: Set when there are no bytes to look at.
    refusal: facts_pb2.Refusal | None = None


class Downloader:
    """Fetches and verifies for one job. Close it."""

    def __init__(self, fetcher: Fetcher, scrape: ScrapeSettings, agent: str) -> None:
        self._fetcher = fetcher
        self._scrape = scrape
        self._agent = agent
        self._threads = ThreadPoolExecutor(os.cpu_count() or 1, thread_name_prefix="verify")

    async def download(self, candidate: Candidate) -> Download:
        """The bytes of a candidate, or why there are none to be had. Raises ``FetchError``."""
        if candidate.robots.decision == FORBIDDEN:
            return _forbidden(candidate, candidate.robots)
        if candidate.path is not None:
            fetched = await asyncio.to_thread(_read_file, candidate, candidate.path, self._scrape.max_bytes)
        else:
            try:
                fetched = await self._fetcher.get(candidate.image_url, max_bytes=self._scrape.max_bytes, accept="image/*,*/*;q=0.5")
            except RobotsForbiddenError as error:
                return _forbidden(candidate, Verdict(FORBIDDEN, error.rule))
        tags = judge_tags(fetched.headers.get("x-robots-tag", []), self._agent, "X-Robots-Tag", respect=self._scrape.respect_robots)
        verdict = candidate.robots.stricter(fetched.robots).stricter(tags)
        if verdict.decision == FORBIDDEN:
            return _forbidden(candidate, verdict, fetched)
        refusal = None
        if fetched.cut_off:
            refusal = facts_pb2.Refusal(reason=facts_pb2.REFUSAL_REASON_TOO_MANY_BYTES, detail=f"more than {self._scrape.max_bytes:,} bytes")
        return Download(candidate, verdict, fetched.url, fetched.status, fetched.content_type, fetched.body, refusal)

    async def look(self, download: Download) -> Finding:
        """What the bytes are; decoding runs beside the event loop."""
        if download.refusal is not None:
            return Finding(url_id(download.candidate.image_url), ImageInfo("", 0, 0), download.refusal)
        return await asyncio.get_running_loop().run_in_executor(self._threads, verify, download.body, self._scrape)

    def close(self) -> None:
        """Waits for what is being decoded."""
        self._threads.shutdown(wait=True)


def url_id(url: str) -> str:
    """The id of a download that has no bytes: sha256 of "url:" and the URL."""
    return sha256_hex(f"url:{url}".encode())


def _forbidden(candidate: Candidate, verdict: Verdict, fetched: Fetched | None = None) -> Download:
    refusal = facts_pb2.Refusal(reason=facts_pb2.REFUSAL_REASON_ROBOTS, detail=verdict.detail)
    if fetched is None:
        return Download(candidate, verdict, refusal=refusal)
    return Download(candidate, verdict, fetched.url, fetched.status, fetched.content_type, refusal=refusal)


def _read_file(candidate: Candidate, path: Path, max_bytes: int) -> Fetched:
    """A local file; cut off where it is longer than the cap."""
    try:
        with path.open("rb") as source:
            data = source.read(max_bytes + 1)
    except OSError as error:
        raise UnreadableFileError(f"{path} cannot be read: {error}") from error
    cut_off = len(data) > max_bytes
    return Fetched(candidate.image_url, 0, {}, b"" if cut_off else data, cut_off=cut_off, robots=candidate.robots)
