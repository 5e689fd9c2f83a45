# noqa: INP001 - a script that compose-test.sh runs in the stack's containers
"""Images through the real stack: scraped from a folder, hashed, decided; the console counts them.

``smoke.py draw`` (in the container that takes the scraper's jobs) makes the images, ``smoke.py`` (in the console's) the rest.
"""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path

UNIQUE = 5
SECONDS = 120
FOLDER = Path("/tmp/smoke")  # noqa: S108 - a tmpfs of the container's own
COLLECTION = """
name: smoke
classes: [a, b]
positive: a
dedup: {distance: 4}
"""


def draw() -> None:
    """``UNIQUE`` different images, and a re-encoded copy of the first."""
    import numpy as np
    from PIL import Image

    FOLDER.mkdir(exist_ok=True)
    rng = np.random.default_rng(0)
    images = [Image.fromarray(rng.integers(0, 256, (6, 8, 3), np.uint8)).resize((320, 240), Image.Resampling.BICUBIC) for _ in range(UNIQUE)]
    for number, (image, quality) in enumerate([*((i, 90) for i in images), (images[0], 70)]):
        image.save(FOLDER / f"{number}.jpg", quality=quality)


async def follow() -> None:
    """Submits the job and waits for the console's funnel. Raises ``SystemExit`` with what it holds after ``SECONDS``."""
    from cosmop_common.endpoints import Endpoints, channel
    from cosmop_common.pb.cosmop.v1 import console_pb2, runs_pb2, scraper_pb2
    from cosmop_common.pb.cosmop.v1.console_pb2_grpc import ConsoleStub
    from cosmop_common.pb.cosmop.v1.scraper_pb2_grpc import ScraperStub

    endpoints = Endpoints()
    async with channel(endpoints.console_addr) as to_console, channel(endpoints.scraper_addr) as to_scraper:
        console = ConsoleStub(to_console)
        await console.PutCollection(console_pb2.PutCollectionRequest(yaml=COLLECTION))
        job = runs_pb2.ScrapeJob(source="folder", queries=[str(FOLDER)])
        await ScraperStub(to_scraper).SubmitJob(scraper_pb2.SubmitJobRequest(collection="smoke", scrape=job))
        deadline = time.monotonic() + SECONDS
        while True:
            funnel = await console.GetFunnel(console_pb2.GetFunnelRequest(collection="smoke"))
            if funnel.scraped == UNIQUE + 1 and funnel.unique == UNIQUE and funnel.duplicates and not funnel.pending:
                break
            if time.monotonic() > deadline:
                sys.exit(f"after {SECONDS} s: {funnel}")
            await asyncio.sleep(0.5)
    print(f"{funnel.scraped} images scraped, {funnel.unique} unique, {funnel.people + funnel.none} screened")  # noqa: T201


if __name__ == "__main__":
    if sys.argv[1:] == ["draw"]:
        draw()
    else:
        asyncio.run(follow())
