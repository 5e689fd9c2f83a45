"""The peer imagededup, run by the Python of an environment of its own: it needs much that ours must not hold.

Make one with ``python -m venv peer && peer/bin/pip install imagededup==0.3.3`` and name it by ``--imagededup-python`` or
``COSMOP_IMAGEDEDUP_PYTHON``. As a program (this file, run by that Python) it reads one command as JSON from stdin and
answers with JSON in its last line; ``ask`` does that from our side.
"""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import time
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any


def python_of(option: str | None) -> str | None:
    """The peer's interpreter: from the option, else from the environment; None where nobody named one."""
    return option or os.environ.get("COSMOP_IMAGEDEDUP_PYTHON")


def ask(python: str, **command: Any) -> Any:
    """Runs a command in the peer's environment. Raises ``RuntimeError`` with what it wrote."""
    # It sees the one interpreter's packages only, and one core, as we do.
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run([python, __file__], input=json.dumps(command), capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        raise RuntimeError(f"{python} cannot {command['do']} with imagededup; was it installed there? {done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def _load() -> Any:
    """``imagededup.methods.hashing``, past the ``__init__`` of its packages, which build networks and download their weights."""
    import imagededup  # type: ignore[import-not-found,unused-ignore]

    for name in ("methods", "utils"):
        package = types.ModuleType(f"imagededup.{name}")
        package.__path__ = [str(Path(imagededup.__file__).parent / name)]
        sys.modules[package.__name__] = package
    return importlib.import_module("imagededup.methods.hashing")


def _hash(files: list[str]) -> dict[str, Any]:
    """Hashes of files, and the CPU seconds they took."""
    hasher = _load().PHash(verbose=False)
    hasher.encode_image(files[0])
    started = time.process_time()
    hashes = [hasher.encode_image(f) for f in files]
    return {"hashes": hashes, "seconds": time.process_time() - started}


def _pairs(hashes: list[str], distance: int, method: str) -> dict[str, Any]:
    """Pairs within a distance, and the CPU seconds (children's too) that finding them took."""
    hasher = _load().PHash(verbose=False)
    before = os.times()
    found = hasher.find_duplicates(
        encoding_map={str(i): h for i, h in enumerate(hashes)}, max_distance_threshold=distance, search_method=method, num_dist_workers=0
    )
    after = os.times()
    return {"pairs": sum(map(len, found.values())) // 2, "seconds": sum(after[:4]) - sum(before[:4])}


def _version() -> str:
    from importlib.metadata import version

    return version("imagededup")


if __name__ == "__main__":
    sys.path.remove(str(Path(__file__).resolve().parent))
    asked = json.load(sys.stdin)
    commands: dict[str, Callable[..., Any]] = {"version": _version, "hash": _hash, "pairs": _pairs}
    answer = commands[asked.pop("do")](**asked)
    print(json.dumps(answer))
