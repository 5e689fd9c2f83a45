"""How long do all pairs among 100,000 hashes within 10 bits take, exactly; and one query among a million? What memory does an index need?

``python -m benchmarks.dedup_search [--imagededup-python peer/bin/python]``. The peer is imagededup's compiled brute force where it is named,
measured on fewer hashes and scaled by the square (it says so); else a popcount scan in NumPy. CPU seconds of one thread.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import ctypes
import gc
import hashlib
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from cosmop_common import hamming
from cosmop_common.collection import DedupSettings
from cosmop_dedup.index import CollectionIndex, Member
from cosmop_dedup.search import HashSearch, near_pairs
from numpy.typing import NDArray

from benchmarks import imagededup_peer, report

DISTANCE = 10
_QUERIES = 200
#: Images that memory is measured on, and told for a million.
_MEMORY_OF = 200_000
_PEER_METHOD = "brute_force_cython"


def main() -> None:
    """Measures and reports."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hashes", type=int, default=100_000, help="hashes for all pairs (default: %(default)s)")
    parser.add_argument("--million", type=int, default=1_000_000, help="hashes for single queries (default: %(default)s)")
    parser.add_argument("--peer-hashes", type=int, default=5_000, help="hashes that the peer is measured on (default: %(default)s)")
    parser.add_argument("--imagededup-python", help="interpreter of an environment with imagededup")
    parser.add_argument("--memory-of", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.memory_of:
        print(_index_bytes(options.memory_of))
        return
    hashes = sample(options.hashes)
    pairs, seconds = _timed(lambda: near_pairs(hashes, DISTANCE))
    query = query_milliseconds(options.million)
    build = _timed(lambda: CollectionIndex(DedupSettings(distance=DISTANCE), members(hashes)))[1]
    memory = subprocess.run([sys.executable, "-m", __spec__.name, "--memory-of", str(_MEMORY_OF)], capture_output=True, text=True, check=True)
    more = {
        "pairs": len(pairs),
        "distance": DISTANCE,
        "query_among": options.million,
        "query_ms": query,
        "index_build_cpu_s": build,
        "index_bytes_per_million": int(memory.stdout) * 1_000_000 // _MEMORY_OF,
    }
    print(" ".join(f"{k}={v}" for k, v in more.items()))
    name, version, value, how = peer_seconds(imagededup_peer.python_of(options.imagededup_python), hashes, min(options.peer_hashes, options.hashes))
    report.write("dedup_search", seconds, name, version, value, "CPU s", options.hashes, higher_is_better=False, peer_measured=how, **more)


def sample(count: int) -> NDArray[np.uint64]:
    """Random hashes, one in fifty a near copy of another."""
    rng = np.random.default_rng(0)
    hashes = rng.integers(0, 2**64, count, dtype=np.uint64)
    copies = np.arange(0, count - 1, 50)
    hashes[copies] = hashes[copies + 1] ^ (np.uint64(0b101) << rng.integers(0, 60, len(copies)).astype(np.uint64))
    return hashes


def members(hashes: NDArray[np.uint64]) -> Iterator[Member]:
    """Images with these hashes, as they come to an index. Ids follow from the hashes, which are distinct."""
    for number, value in enumerate(hashes.tolist()):
        yield Member.of(hashlib.sha256(b"%d" % value).hexdigest(), (value,) * 8, 640 * 480, 50_000 + number % 1000)


def query_milliseconds(count: int) -> dict[str, float]:
    """Milliseconds of one query among ``count`` hashes, one thread: median and 95th percentile by the clock, and the mean of CPU time.

    Half of the queries are near copies of a hash that is there. The tables are made before; ``tables_ms`` says in how long.
    """
    rng = np.random.default_rng(1)
    hashes = rng.integers(0, 2**64, (count, 1), dtype=np.uint64)
    queries = np.concatenate([hashes[: _QUERIES // 2] ^ np.uint64(0b1101), rng.integers(0, 2**64, (_QUERIES // 2, 1), dtype=np.uint64)])
    search = HashSearch()
    search.add(hashes)
    tables = _timed(lambda: search.within(queries[:1], DISTANCE))[1] * 1000
    times = []
    cpu = time.process_time()
    for query in queries:
        started = time.perf_counter()
        search.within(query[None], DISTANCE)
        times.append((time.perf_counter() - started) * 1000)
    cpu = (time.process_time() - cpu) * 1000 / _QUERIES
    return {"median": statistics.median(times), "p95": sorted(times)[int(0.95 * len(times))], "cpu": cpu, "tables_ms": tables}


def peer_seconds(python: str | None, hashes: NDArray[np.uint64], count: int) -> tuple[str, str, float, str]:
    """The peer's name, version and CPU seconds for all pairs, and how they were measured."""
    scale = (len(hashes) / count) ** 2
    how = f"measured on {count:,} hashes, scaled by the square to {len(hashes):,}"
    expected = len(near_pairs(hashes[:count], DISTANCE))
    if python is None:
        found, seconds = _timed(lambda: hamming.near_pairs(hashes[:count], DISTANCE))
        assert len(found) == expected
        return "numpy", np.__version__, seconds * scale, how
    answer = imagededup_peer.ask(python, do="pairs", hashes=[f"{h:016x}" for h in hashes[:count].tolist()], distance=DISTANCE, method=_PEER_METHOD)
    assert answer["pairs"] == expected, f"imagededup found {answer['pairs']} pairs, we {expected}"
    return "imagededup", imagededup_peer.ask(python, do="version"), answer["seconds"] * scale, f"{how}; {_PEER_METHOD}"


def _index_bytes(count: int) -> int:
    """Resident memory that an index of so many images takes; in a process of its own, where nothing else comes and goes."""
    hashes = sample(count)
    CollectionIndex(DedupSettings(), members(hashes[:1000]))
    before = _resident()
    # As a running index grows: from a start, by arrivals; the objects that bring them are not kept.
    index = CollectionIndex(DedupSettings(), members(hashes[: count // 2]))
    for member in members(hashes[count // 2 :]):
        index.put(member)
    index.near(hashes[:1], 0, 1)
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    assert len(index) == count
    return _resident() - before


def _resident() -> int:
    """Bytes of this process in memory; Linux."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _timed(call: Any) -> tuple[Any, float]:
    started = time.process_time()
    result = call()
    return result, time.process_time() - started


if __name__ == "__main__":
    main()
