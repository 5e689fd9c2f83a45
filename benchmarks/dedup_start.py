"""How long does the index role take to start: 100,000 ``hashed`` facts read from NATS, and decided?

``python -m benchmarks.dedup_start [--images 100000]``. A NATS server of its own is filled with that many ``hashed`` and ``deduplicated`` facts,
as a system that has run would hold them; then a process of its own rebuilds the index (``Keeper.rebuild``: from here on it serves and decides) and
compares it with what was said (``Keeper.catch_up``: beside the work). The peer is ImageHash with a plain loop: each of as many hex hashes as
``imagehash.hex_to_hash`` reads, compared with all others in NumPy's popcount, the way its users rebuild a list; it has no NATS to read from.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import asyncio
import hashlib
import json
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import imagehash
import numpy as np
from cosmop_common.bus import Bus
from cosmop_common.collection import Collection, DedupSettings
from cosmop_common.collections_kv import Collections
from cosmop_common.facts import Facts
from cosmop_common.names import Fact, fact_subject
from cosmop_common.pb.cosmop.v1 import facts_pb2
from cosmop_common.settings import ConnectionSettings
from cosmop_common.topology import provision
from cosmop_dedup.erased import Tombstones
from cosmop_dedup.keeper import Keeper
from cosmop_dedup.phash import ALGORITHM
from cosmop_dedup.state import CollectionState, Known
from cosmop_local import servers

from benchmarks import report
from benchmarks.dedup_search import sample

RULE = DedupSettings(distance=10)
_AT_ONCE = 2000


def main() -> None:
    """Fills a server, starts an index on it, reports."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=100_000, help="images of the collection (default: %(default)s)")
    parser.add_argument("--rebuild", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.rebuild:
        print(json.dumps(asyncio.run(rebuild())))
        return
    with tempfile.TemporaryDirectory() as folder:
        spec = servers.nats_spec(Path(folder) / "nats", user="bench", password=servers.random_secret())
        server = servers.start(spec, Path(folder) / "log")
        try:
            os.environ.update(spec.settings)
            asyncio.run(fill(options.images))
            child = subprocess.run([sys.executable, "-m", __spec__.name, "--rebuild"], capture_output=True, text=True, check=False)
        finally:
            servers.stop(server)
    if child.returncode:
        raise SystemExit(child.stderr)
    measured = json.loads(child.stdout.splitlines()[-1])
    assert measured["images"] == options.images
    print(" ".join(f"{k}={v:.4g}" for k, v in measured.items()))
    peer = peer_seconds(options.images, min(options.images, 10_000))
    how = "reads up to 10,000 hashes and compares 300 with each other, both scaled; no facts, no index: not the same work"
    report.write(
        "dedup_start",
        measured["rebuild_cpu_s"],
        "ImageHash",
        version("ImageHash"),
        peer,
        "CPU s",
        options.images,
        higher_is_better=False,
        peer_measured=how,
        **measured,
    )


async def fill(images: int) -> None:
    """A collection, its ``hashed`` facts, and what an index said of them."""
    settings = ConnectionSettings()
    bus = await Bus.connect(settings, "fill")
    await provision(bus.js, settings)
    await Collections(bus).put(Collection(name="c", classes=("yes", "no"), positive="yes", dedup=RULE))
    hashed = facts_of(images)
    await publish(bus, hashed)
    state = CollectionState(RULE, [Known(fact, number + 1) for number, fact in enumerate(hashed)])
    await publish(bus, list(state.facts("c")))
    await bus.close()


def facts_of(images: int) -> list[Any]:
    """``hashed`` facts of random pictures, one in fifty a near copy of another."""
    rng = np.random.default_rng(2)
    turned = rng.integers(0, 2**64, (images, 7), dtype=np.uint64)
    sides = rng.integers(200, 3000, (images, 2)).tolist()
    return [
        facts_pb2.Hashed(
            collection="c", image=hashlib.sha256(b"%d" % number).hexdigest(), phash=phash, turned=turned[number].tolist(), algorithm=ALGORITHM,
            width=sides[number][0], height=sides[number][1], size=50_000 + number % 1000, cause=number + 1,
        )
        for number, phash in enumerate(sample(images).tolist())
    ]  # fmt: skip


async def publish(bus: Bus, facts: list[Fact]) -> None:
    """All facts, many under way at once: as a fleet of workers would, with no compare-and-set."""
    for start in range(0, len(facts), _AT_ONCE):
        waiting = [await bus.js.publish_async(fact_subject(fact), fact.SerializeToString()) for fact in facts[start : start + _AT_ONCE]]
        await asyncio.gather(*waiting)


async def rebuild() -> dict[str, float]:
    """Seconds by the clock and of the processor."""
    bus = await Bus.connect(ConnectionSettings(), "rebuild")
    collections = Collections(bus)
    await collections.start()
    keeper = Keeper(Facts(bus), collections, Tombstones(Facts(bus)))
    marks = [(time.perf_counter(), time.process_time())]
    images = await keeper.rebuild()
    marks.append((time.perf_counter(), time.process_time()))
    await keeper.catch_up()
    marks.append((time.perf_counter(), time.process_time()))
    await collections.stop()
    await bus.close()
    (a, b), (c, d), (e, f) = marks
    return {"images": images, "rebuild_s": c - a, "rebuild_cpu_s": d - b, "compare_s": e - c, "compare_cpu_s": f - d}


def peer_seconds(images: int, count: int) -> float:
    """CPU seconds of ImageHash's own comparing, scaled to ``images``."""
    texts = [f"{h:016x}" for h in sample(count).tolist()]
    started = time.process_time()
    hashes = [imagehash.hex_to_hash(text) for text in texts]
    read = time.process_time() - started
    started = time.process_time()
    few = hashes[:300]
    near = sum((a - b) <= RULE.distance for a in few for b in few)
    assert near >= len(few)
    pairs = (time.process_time() - started) / len(few) ** 2
    return read * images / count + pairs * images**2 / 2


if __name__ == "__main__":
    main()
