"""How many images a CPU-second of the scraper fetches, verifies, stores and records, against img2dataset on the same URLs.

``python -m benchmarks.scrape --img2dataset-python peer/bin/python`` (or COSMOP_IMG2DATASET_PYTHON); the peer needs an
environment of its own: ``python -m venv peer && peer/bin/pip install img2dataset``.
``python -m benchmarks.scrape --memory`` watches our memory over 20,000 images instead.

A site in a process of its own (``scrape_site``) serves photos under 50 host names, which both resolve by the same few
lines (``scrape_names``). Rounds alternate, each with servers, folders and facts of its own; the best of each counts. CPU
is what the kernel says of a process and all its children, start included; the JSON tells the same without the start.
Ours obeys robots.txt, guards addresses, decodes every image, stores it in S3 and publishes two facts of it; politeness is
wide open. The peer decodes every image, encodes none anew (resize_mode no, skip_reencode), hashes it and writes files; with
``--bytes-only`` it is measured without decoding as well (disable_all_reencoding). What NATS and the object store used is
told beside.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from benchmarks import pictures, report
from benchmarks.scrape_ours import NAMES, Measured, RunFailedError, Sample, scrape, wait

HOSTS = 50
_PEER = """
import sys
if __name__ == "__main__":
    from img2dataset import download
    urls, folder, processes, bytes_only = sys.argv[1:]
    download(url_list=urls, output_folder=folder, processes_count=int(processes), thread_count=64, resize_mode="no", skip_reencode=True,
             disable_all_reencoding=bytes_only == "1", output_format="files", number_sample_per_shard=1000)
"""


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, default=pictures.PHOTOS, help="folder of JPEGs (default: %(default)s); random ones where it is missing")
    parser.add_argument("--images", type=int, default=0, help="URLs (default: 5000; with --memory 20000)")
    parser.add_argument("--rounds", type=int, default=3, help="of each (default: %(default)s)")
    parser.add_argument("--img2dataset-python", default=os.environ.get("COSMOP_IMG2DATASET_PYTHON", ""), help="interpreter of an environment with img2dataset")
    parser.add_argument("--bytes-only", action="store_true", help="measure img2dataset without decoding, too")
    parser.add_argument("--memory", action="store_true", help="sample our resident memory instead")
    parser.add_argument("--profile", type=Path, help="write what cProfile says of our process to this file, and measure nothing else")
    options = parser.parse_args()
    images = options.images or (20_000 if options.memory else 5_000)
    with tempfile.TemporaryDirectory(prefix="cosmop-bench-") as name, site(options.photos) as (port, mean_bytes):
        folder = Path(name)
        urls = folder / "urls.txt"
        urls.write_text("".join(f"http://photos-{i % HOSTS:02d}.test:{port}/{i}.jpg\n" for i in range(images)))
        if options.profile:
            print(asyncio.run(scrape(folder / "ours", urls, images, profile=options.profile)))
        elif options.memory:
            memory(folder, urls, images, mean_bytes)
        else:
            compare(options, folder, urls, images, mean_bytes)


def compare(options: argparse.Namespace, folder: Path, urls: Path, images: int, mean_bytes: int) -> None:
    """Alternating rounds of ours and the peer's."""
    peer = options.img2dataset_python
    if not peer:
        sys.exit("name the peer's interpreter: --img2dataset-python, or COSMOP_IMG2DATASET_PYTHON")
    peers = {"img2dataset": False} | ({"img2dataset_bytes_only": True} if options.bytes_only else {})
    rounds: dict[str, list[Measured]] = {"ours": [], **{name: [] for name in peers}}
    for number in range(options.rounds):
        rounds["ours"].append(asyncio.run(scrape(folder / f"ours-{number}", urls, images)))
        for name, bytes_only in peers.items():
            rounds[name].append(theirs(peer, folder / f"{name}-{number}", urls, images, bytes_only=bytes_only))
        for name, measured in rounds.items():
            print(f"{name}: {measured[-1].value:.1f} images per CPU-second {measured[-1]}", flush=True)
    best = {name: max(measured, key=lambda m: m.value) for name, measured in rounds.items()}
    few = folder / "few.txt"
    few.write_text("".join(urls.read_text().splitlines(keepends=True)[:HOSTS]))
    starts = {"ours": asyncio.run(scrape(folder / "ours-few", few, HOSTS))}
    starts |= {name: theirs(peer, folder / f"{name}-few", few, HOSTS, bytes_only=bytes_only) for name, bytes_only in peers.items()}
    steady = {name: (images - HOSTS) / (best[name].cpu_seconds - start.cpu_seconds) for name, start in starts.items()}
    version = subprocess.run([peer, "-c", "import importlib.metadata as m; print(m.version('img2dataset'))"], check=True, capture_output=True, text=True)
    report.write(
        "scrape",
        best["ours"].value,
        "img2dataset",
        version.stdout.strip(),
        best["img2dataset"].value,
        "images per CPU-second",
        images,
        rounds={name: [asdict(m) | {"value": m.value} for m in measured] for name, measured in rounds.items()},
        ratios={name: best["ours"].value / best[name].value for name in peers},
        # What is left when a run of one URL for each host is taken away: the cost of an image without that of starting.
        start_cpu_seconds={name: start.cpu_seconds for name, start in starts.items()},
        without_start={name: {"value": value, "ratio": steady["ours"] / value} for name, value in steady.items()},
        hosts=HOSTS,
        mean_bytes=mean_bytes,
    )


def memory(folder: Path, urls: Path, images: int, mean_bytes: int) -> None:
    """Our resident memory over a run, and how it grows in the second half."""
    samples: list[Sample] = []
    measured = asyncio.run(scrape(folder / "ours", urls, images, samples=samples))
    late = [s for s in samples if images / 2 <= s.images < images]
    slope = _slope([(s.images / 1000, s.mebibytes) for s in late])
    # The peer of a run's second half is its first: flat is a ratio of 1.
    early = [s for s in samples if images / 4 <= s.images < images / 2]
    means = [sum(s.mebibytes for s in part) / len(part) for part in (late, early)]
    print(f"{slope:+.2f} MiB per 1000 images in the second half, at most {max(s.mebibytes for s in samples):.0f} MiB")
    report.write(
        "scrape_memory",
        means[0],
        "itself in the second quarter",
        "",
        means[1],
        "MiB resident in the second half",
        images,
        higher_is_better=False,
        mebibytes_per_1000_images=slope,
        most_mebibytes=max(s.mebibytes for s in samples),
        samples=[asdict(s) for s in samples],
        run=asdict(measured),
        mean_bytes=mean_bytes,
    )


def theirs(peer: str, folder: Path, urls: Path, images: int, *, bytes_only: bool) -> Measured:
    """One run of img2dataset over all URLs, with as many processes as there are cores. Raises ``RunFailedError``."""
    driver = folder.with_suffix(".py")
    driver.write_text(_PEER)
    command = [peer, str(driver), str(urls), str(folder), str(os.cpu_count() or 1), str(int(bytes_only))]
    started = time.monotonic()
    with folder.with_suffix(".log").open("wb") as log:
        process = subprocess.Popen(command, env=os.environ | {"PYTHONPATH": str(NAMES)}, stdout=log, stderr=log)
    cpu_seconds = wait(process)
    wall = time.monotonic() - started
    files = sum(1 for _ in folder.rglob("*.jpg"))
    if files != images:
        raise RunFailedError(f"img2dataset wrote {files} of {images} images:\n{folder.with_suffix('.log').read_text()[-3000:]}")
    return Measured(images, cpu_seconds, wall)


@contextlib.contextmanager
def site(photos: Path) -> Iterator[tuple[int, int]]:
    """Runs the site; yields its port and the mean size of its photos in bytes."""
    process = subprocess.Popen([sys.executable, "-m", "benchmarks.scrape_site", "--photos", str(photos)], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        port, mean_bytes = process.stdout.readline().split()
        yield int(port), int(mean_bytes)
    finally:
        process.terminate()
        process.wait()


def _slope(points: list[tuple[float, float]]) -> float:
    """Of the line of least squares through points."""
    if len(points) < 2:
        return 0.0
    mean_x, mean_y = (sum(values) / len(points) for values in zip(*points, strict=True))
    spread = sum((x - mean_x) ** 2 for x, _ in points)
    return sum((x - mean_x) * (y - mean_y) for x, y in points) / spread if spread else 0.0


if __name__ == "__main__":
    main()
