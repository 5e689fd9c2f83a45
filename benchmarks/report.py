"""How a benchmark says what it measured: JSON in ``benchmarks/out/<name>.json``, and one last line on stdout."""

from __future__ import annotations

import datetime
import json
import math
import os
import platform
from pathlib import Path
from typing import Any

OUT = Path(__file__).resolve().parent / "out"


def write(
    name: str,
    ours: float,
    peer_name: str,
    peer_version: str,
    peer_value: float,
    unit: str,
    n: int,
    higher_is_better: bool = True,
    **more: Any,
) -> Path:
    """Stores a benchmark's result and prints its last line, ``ratio R (ours ..., peer ...)``.

    Args:
        name: the module's name: "dedup_hash".
        ours: what we measured of ourselves, in ``unit``.
        peer_name: what we compare with, as its package is called.
        peer_version: its version.
        peer_value: what we measured of it in the same run, in ``unit``.
        unit: "img/s", "s".
        n: how many items were measured.
        higher_is_better: False for times and sizes; the ratio is above 1 where ours is better, either way.
        more: whatever else was measured; must be JSON.

    Returns:
        Path of the JSON file.

    Raises:
        ValueError: a value is not a positive number, so that there is no ratio.
    """
    for whose, value in (("ours", ours), ("peer_value", peer_value)):
        if not (math.isfinite(value) and value > 0):
            raise ValueError(f"benchmark {name}: {whose} is {value}: a ratio needs two positive numbers")
    ratio = ours / peer_value if higher_is_better else peer_value / ours
    path = store(
        name, ours=ours, peer={"name": peer_name, "version": peer_version, "value": peer_value}, unit=unit, n=n, ratio=ratio, higher_is_better=higher_is_better,
        **more,
    )  # fmt: skip
    print(f"ratio {ratio:.3g} (ours {ours:.4g} {unit}, {peer_name} {peer_version} {peer_value:.4g} {unit})")
    return path


def store(name: str, **found: Any) -> Path:
    """Stores what a benchmark found, with date and machine."""
    result = {"name": name, "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"), "machine": machine()} | found
    OUT.mkdir(parents=True, exist_ok=True)
    path = OUT / f"{name}.json"
    path.write_text(json.dumps(result, indent=1, allow_nan=False) + "\n")
    return path


def machine() -> str:
    """The machine in words: processor, cores, memory, load when the benchmark ended, Python."""
    cpu = platform.processor() or platform.machine()
    information = Path("/proc/cpuinfo")
    if information.exists():
        names = [line.partition(":")[2].strip() for line in information.read_text().splitlines() if line.startswith("model name")]
        cpu = names[0] if names else cpu
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{cpu}, {cores} cores, {memory:.0f} GiB, load {os.getloadavg()[0]:.1f}, Python {platform.python_version()}, {platform.system()}"
