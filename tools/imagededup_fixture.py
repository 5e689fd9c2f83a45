"""Freezes what imagededup answers for drawn pictures, so that every machine checks our compatibility mode against it.

The tests do not need it: it made ``tests/data/imagededup_phash.json``, and makes it anew after a
change of the pictures. The pictures are drawn by ``tests/dedup_pictures.py``, the hashes are ``PHash().encode_image`` of imagededup 0.3.3, run by the
Python of an environment that has it: ``python tools/imagededup_fixture.py peer/bin/python``.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from dedup_pictures import pictures  # type: ignore[import-not-found]  # noqa: E402

from benchmarks import imagededup_peer  # noqa: E402


def main(python: str) -> None:
    """Asks the library and writes the file."""
    with tempfile.TemporaryDirectory() as folder:
        files: dict[str, Path] = {}
        for name, data in pictures().items():
            files[name] = Path(folder) / f"{len(files)}.image"
            files[name].write_bytes(data)
        hashes = imagededup_peer.ask(python, do="hash", files=[str(f) for f in files.values()])["hashes"]
    answer = {"imagededup": imagededup_peer.ask(python, do="version"), "hashes": dict(zip(files, hashes, strict=True))}
    (ROOT / "tests/data/imagededup_phash.json").write_text(json.dumps(answer, indent=1) + "\n", encoding="utf-8")
    print(f"{len(files)} hashes")


if __name__ == "__main__":
    main(sys.argv[1])
