"""One replica of the scraper as a process of its own, that asks one host as fast as it may: ``python scraper_replica.py URL RATE SECONDS``."""

from __future__ import annotations

import asyncio
import sys
import time

from cosmop_common.bus import Bus
from cosmop_common.settings import ConnectionSettings
from cosmop_scraper.fetch import Fetcher
from cosmop_scraper.peers import Peers
from cosmop_scraper.politeness import Politeness
from cosmop_scraper.settings import Settings


async def replica(settings: ConnectionSettings, url: str, rate: float, seconds: float) -> None:
    """Asks in three tasks at once, over a connection to NATS of its own."""
    bus = await Bus.connect(settings, "replica")
    peers = await Peers.join(bus, "c", lambda _digest: None)
    fetcher = Fetcher(Settings(), Politeness(rate, 4, peers), respect_robots=False, allow_private=True)
    until = time.monotonic() + seconds

    async def ask() -> None:
        while time.monotonic() < until:
            await fetcher.get(url, max_bytes=100, robots=False)

    print("asks", flush=True)  # the test waits for it
    await asyncio.gather(ask(), ask(), ask())
    await fetcher.close()
    await peers.leave()
    await bus.close()


if __name__ == "__main__":
    asyncio.run(replica(ConnectionSettings(), sys.argv[1], float(sys.argv[2]), float(sys.argv[3])))
