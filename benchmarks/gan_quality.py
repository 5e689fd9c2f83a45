"""FID over thousands of images shown: our trainer and NVIDIA's networks and losses, on the same photos with the same settings.

    python -m benchmarks.gan_quality --checkout DIR [--photos DIR] [--resolution 32] [--kimg 20] [--snapshots 4] [--samples 500] [--seed 0]

``DIR`` is a checkout of github.com/NVlabs/stylegan2-ada-pytorch. Both train the preset ``tiny`` on the same pixels in the same order,
each in a process of its own, one after the other; FID is ours (``benchmarks.fid`` shows that it is the right number), of the
same number of samples against all photos, with its interval. Writes the curves as ``benchmarks/out/gan_quality.svg``.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np

from benchmarks import nvidia_peer, report

mpl.use("svg")
from matplotlib import pyplot as plt

_PHOTOS = Path(__file__).resolve().parents[2] / "shared" / "photos"


def main() -> None:
    """Trains both, judges, prints and stores."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--checkout", type=Path, required=True, help="checkout of NVIDIA's stylegan2-ada-pytorch")
    parser.add_argument("--photos", type=Path, default=_PHOTOS, help="folder with photos anywhere below")
    parser.add_argument("--resolution", type=int, default=32)
    parser.add_argument("--kimg", type=float, default=20.0)
    parser.add_argument("--snapshots", type=int, default=4)
    parser.add_argument("--samples", type=int, default=500)
    parser.add_argument("--limit", type=int, default=0, help="at most so many photos; 0: all")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--seed", type=int, default=0, help="of weights, order and latents, of both: one seed says little of who is ahead")
    parser.add_argument("--option", action="append", default=[], metavar="NAME=VALUE", help="setting of both trainers")
    parser.add_argument("--side", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    nvidia_peer.require(arguments.checkout)
    if arguments.side:
        train(arguments)
        return
    with tempfile.TemporaryDirectory() as name:
        arguments.folder = Path(name)
        np.save(arguments.folder / "photos.npy", photos(arguments.photos, arguments.resolution, arguments.limit))
        for side in ("ours", "peer"):
            command = [sys.executable, "-m", "benchmarks.gan_quality", *sys.argv[1:], "--side", side, "--folder", name]
            subprocess.run(command, check=True, cwd=Path(__file__).resolve().parents[1])
        curves = judge(arguments.folder)
    plot(curves)
    best = {side: min((point for point in curve if point["kimg"]), key=lambda p: p["fid"]) for side, curve in curves.items()}
    last = {side: curve[-1] for side, curve in curves.items()}
    report.write(
        "gan_quality", last["ours"]["fid"], "stylegan2-ada-pytorch", "checkout", last["peer"]["fid"], "FID", arguments.samples,
        higher_is_better=False, curves=curves, best=best, resolution=arguments.resolution, kimg=arguments.kimg, seed=arguments.seed, options=arguments.option,
    )  # fmt: skip


def photos(folder: Path, resolution: int, limit: int) -> np.ndarray:
    """All photos below a folder as our trainer cuts them: [n, r, r, 3]."""
    from cosmop_gan_trainer.data import Images

    found = sorted(p for p in folder.rglob("*") if p.suffix.lower() in {".jpg", ".jpeg", ".png", ".webp"})
    found = found[:: max(1, len(found) // limit)][:limit] if limit else found
    if not found:
        raise SystemExit(f"{folder} holds no photos: name another folder with --photos")
    images = Images(resolution)
    images.add_all((str(p), p.read_bytes()) for p in found)
    return np.stack(images.pixels)


def train(arguments: argparse.Namespace) -> None:
    """One side: trains, and stores samples and the time so far at each snapshot."""
    import torch
    from cosmop_gan_trainer.data import Images, TrainingSet
    from cosmop_gan_trainer.presets import configure
    from cosmop_gan_trainer.snapshots import draw
    from cosmop_gan_trainer.trainer import Trainer

    device = torch.device(arguments.device)
    run = configure("tiny", arguments.resolution, arguments.seed, options=dict(o.split("=", 1) for o in arguments.option))
    pixels = np.load(arguments.folder / "photos.npy")
    data = TrainingSet.build(Images(arguments.resolution, list(pixels), [0] * len(pixels)), run, device)
    ours = Trainer(run, data, device) if arguments.side == "ours" else None
    peer = nvidia_peer.Peer(arguments.checkout, run, device) if ours is None else None
    total, batch, seconds = round(arguments.kimg * 1000), run.train.batch, 0.0
    due = [round(total * k / arguments.snapshots) for k in range(arguments.snapshots + 1)]
    shown = 0
    while due:
        if shown >= due[0]:
            seeds = [range(k, min(k + 50, arguments.samples)) for k in range(0, arguments.samples, 50)]
            samples = [draw(ours.average, s) if ours else peer.samples(s) for s in seeds if ours or peer]  # type: ignore[union-attr]
            np.savez(arguments.folder / f"{arguments.side}-{shown:09d}.npz", samples=np.concatenate(samples), seconds=seconds)
            print(f"{arguments.side}: {shown / 1000:g} kimg, {seconds:.0f} s", flush=True)
            due.pop(0)
            continue
        begun = time.perf_counter()
        if ours:
            ours.step()
        elif peer:
            peer.step(data.draw(shown, batch)[0])
        seconds += time.perf_counter() - begun
        shown += batch


def judge(folder: Path) -> dict[str, list[dict[str, Any]]]:
    """FID of each snapshot, with its interval."""
    from cosmop_fid_evaluator.frechet import frechet_with_influence
    from cosmop_fid_evaluator.intervals import influence_interval
    from cosmop_fid_evaluator.networks import Networks, extract
    from cosmop_fid_evaluator.protocol import find_protocol
    from cosmop_gan_trainer.snapshots import png

    network = Networks().get(find_protocol("fid"))
    threads = ThreadPoolExecutor(len(os.sched_getaffinity(0)))

    def features(pixels: np.ndarray) -> Any:
        encoded = [png(p) for p in pixels]
        return np.concatenate([extract(network, encoded[k : k + 16], 0, threads).features for k in range(0, len(encoded), 16)])

    reference = features(np.load(folder / "photos.npy"))
    curves: dict[str, list[dict[str, Any]]] = {"ours": [], "peer": []}
    for path in sorted(folder.glob("*-*.npz")):
        side, shown = path.stem.split("-")
        stored = np.load(path)
        distance = frechet_with_influence(reference, features(stored["samples"]))
        low, high = influence_interval(distance)
        point = {"kimg": int(shown) / 1000, "fid": distance.value, "low": low, "high": high, "seconds": float(stored["seconds"])}
        curves[side].append(point)
        print(f"{side}: {point['kimg']:g} kimg, FID {distance.value:.1f} [{low:.1f}, {high:.1f}]", flush=True)
    return curves


def plot(curves: dict[str, list[dict[str, Any]]]) -> None:
    """Both curves with their intervals."""
    figure, axes = plt.subplots(figsize=(6.4, 4))
    for (side, curve), colour in zip(curves.items(), ("#0a6", "#c40"), strict=True):
        kimg = [p["kimg"] for p in curve]
        axes.plot(kimg, [p["fid"] for p in curve], "o-", color=colour, label={"ours": "COSMOP", "peer": "stylegan2-ada-pytorch"}[side])
        axes.fill_between(kimg, [p["low"] for p in curve], [p["high"] for p in curve], color=colour, alpha=0.15, linewidth=0)
    axes.set_xlabel("thousands of images shown")
    axes.set_ylabel("FID (lower is better)")
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    report.OUT.mkdir(parents=True, exist_ok=True)
    figure.savefig(report.OUT / "gan_quality.svg")


if __name__ == "__main__":
    main()
