"""``python -m cosmop_scraper`` serves; ``python -m cosmop_scraper job`` takes scrape jobs."""

from __future__ import annotations

import asyncio

from cosmop_common import runtime
from cosmop_common.runtime import Runtime

from cosmop_scraper.settings import Settings


async def serve() -> None:
    """The endpoint: starts jobs and shows them."""
    from cosmop_common.pb.cosmop.v1 import scraper_pb2, scraper_pb2_grpc

    from cosmop_scraper.service import ScraperServicer

    settings = Settings()
    async with Runtime("scraper", settings) as body:
        body.serve(scraper_pb2_grpc.add_ScraperServicer_to_server, ScraperServicer(body, settings), scraper_pb2)
        await body.until_stopped()


async def job(idle_seconds: float | None) -> None:
    """A job process: takes scrapes from the queue, one after the other."""
    from cosmop_scraper.job import scrape_handler

    settings = Settings()
    async with Runtime("scraper", settings, serving=False) as body:
        await body.run_jobs({"scrape": scrape_handler(body, settings)}, idle_seconds=idle_seconds)


def job_loop() -> asyncio.AbstractEventLoop:
    """The event loop of libuv: a scrape is tens of thousands of small events, each of which costs asyncio's own about twice as much."""
    import uvloop

    return uvloop.new_event_loop()


if __name__ == "__main__":
    runtime.main(serve, job, job_loop)
