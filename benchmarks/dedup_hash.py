"""How many images a second does one core hash, against ImageHash and imagededup, from files, decoding included?

``python -m benchmarks.dedup_hash [--imagededup-python peer/bin/python]``. All measure CPU time of one thread on the same files; rounds
alternate between the libraries, and the best round of each counts. It also checks that our compatibility modes give the peers' bits, on these files and
on all photos as they are.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import imagehash
from cosmop_dedup.compat import imagededup_phash, imagehash_phash
from cosmop_dedup.hashing import hash_image
from PIL import Image

from benchmarks import imagededup_peer, pictures, report

SIZES = ((640, 480), (1920, 1440))
ROUNDS = 3


def main() -> None:
    """Measures and reports."""
    parser = argparse.ArgumentParser(description=__doc__)
    pictures.add_options(parser, 100)
    parser.add_argument("--imagededup-python", help="interpreter of an environment with imagededup; left out where none is named")
    parser.add_argument("--compare", type=int, default=100_000, help="compare bits on at most so many photos (default: all)")
    options = parser.parse_args()
    peer = imagededup_peer.python_of(options.imagededup_python)
    images, what = pictures.load(options.photos, options.images)
    table = {f"{w}x{h}": measure(images, (w, h), peer) for w, h in SIZES}
    for size, row in table.items():
        print(size, " ".join(f"{k}={v:.4g}" if isinstance(v, float) else f"{k}={v}" for k, v in row.items()))
    exact = compare_all(options.photos, peer, options.compare)
    print("all photos:", exact)
    first = table["640x480"]
    extra: dict[str, Any] = {"imagededup_version": imagededup_peer.ask(peer, do="version")} if peer else {}
    report.write(
        "dedup_hash",
        first["ours"],
        "ImageHash",
        version("ImageHash"),
        first["imagehash"],
        "img/s",
        len(images),
        table=table,
        all_photos=exact,
        pictures=what,
        **extra,
    )


def measure(images: list[Image.Image], size: tuple[int, int], peer: str | None) -> dict[str, Any]:
    """Images a second of each library at one size, and whether the compatibility modes agree with them."""
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder) / f"{number}.jpg" for number in range(len(images))]
        for file, image in zip(files, images, strict=True):
            file.write_bytes(pictures.jpeg(image, size))
        best = {"ours": float("inf"), "imagehash": float("inf"), "imagededup": float("inf")}
        theirs: dict[str, Any] = {}
        for _ in range(ROUNDS):
            best["ours"] = min(best["ours"], _seconds(lambda f: hash_image(f.read_bytes()), files))
            best["imagehash"] = min(best["imagehash"], _seconds(lambda f: imagehash.phash(Image.open(f)), files))
            if peer:
                theirs = imagededup_peer.ask(peer, do="hash", files=[str(f) for f in files])
                best["imagededup"] = min(best["imagededup"], theirs["seconds"])
        row: dict[str, Any] = {name: len(files) / seconds for name, seconds in best.items() if seconds < float("inf")}
        row["ratio_imagehash"] = row["ours"] / row["imagehash"]
        row["same_as_imagehash"] = sum(f"{imagehash_phash(f.read_bytes()):016x}" == str(imagehash.phash(Image.open(f))) for f in files)
        if peer:
            row["ratio_imagededup"] = row["ours"] / row["imagededup"]
            row["same_as_imagededup"] = sum(f"{imagededup_phash(f.read_bytes()):016x}" == h for f, h in zip(files, theirs["hashes"], strict=True))
        return row


def compare_all(folder: Path, peer: str | None, limit: int) -> dict[str, int]:
    """On how many photos, as they are, each compatibility mode gives its library's bits."""
    files = [p for p in sorted(folder.rglob("*")) if p.suffix.lower() in {".jpg", ".jpeg", ".png"}][:limit] if folder.is_dir() else []
    same = {"photos": len(files), "imagehash": sum(f"{imagehash_phash(f.read_bytes()):016x}" == str(imagehash.phash(Image.open(f))) for f in files)}
    if peer and files:
        theirs = imagededup_peer.ask(peer, do="hash", files=[str(f) for f in files])["hashes"]
        same["imagededup"] = sum(f"{imagededup_phash(f.read_bytes()):016x}" == h for f, h in zip(files, theirs, strict=True))
    return same


def _seconds(call: Callable[[Path], object], files: list[Path]) -> float:
    started = time.process_time()
    for file in files:
        call(file)
    return time.process_time() - started


if __name__ == "__main__":
    main()
