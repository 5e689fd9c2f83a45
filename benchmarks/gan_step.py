"""Seconds per thousand images of our trainer against NVIDIA's own networks and losses, on this machine, phase by phase.

    python -m benchmarks.gan_step --checkout DIR [--resolutions 64 128] [--batch 8] [--p 0.5] [--rounds 1] [--precision auto] [--device cpu]

``DIR`` is a checkout of github.com/NVlabs/stylegan2-ada-pytorch, never part of this project; it needs ``requests``. It runs on
its pure PyTorch fallbacks where its CUDA extensions cannot be built. Both train the same preset (``auto``) with the same
augmentation at the same p; a step's cost is that of its phases, the lazy ones divided by their intervals. Each side is a process of
its own, in turns.
"""

from __future__ import annotations

import argparse
import functools
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks import nvidia_peer, report

PHASES = ("generator", "path length", "discriminator", "penalty")


def main() -> None:
    """Measures, prints and stores."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--checkout", type=Path, required=True, help="checkout of NVIDIA's stylegan2-ada-pytorch")
    parser.add_argument("--resolutions", type=int, nargs="+", default=[64, 128])
    parser.add_argument("--p", type=float, default=0.5, help="augmentation probability")
    parser.add_argument("--rounds", type=int, default=1, help="measurements of each phase, after one to warm up")
    parser.add_argument("--precision", choices=("auto", "fp32", "bf16"), default="auto", help="ours; the peer's half precision is for GPUs alone")
    parser.add_argument("--batch", type=int, default=0, help="images a step, of both; 0: the preset's (32), for which 128 px want more than 24 GB")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--option", action="append", default=[], metavar="NAME=VALUE", help="of our trainer")
    parser.add_argument("--side", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    nvidia_peer.require(arguments.checkout)
    if arguments.side:
        side = {"ours": ours, "peer": peer}[arguments.side]
        print(json.dumps(side(arguments)))
        return
    results = {resolution: {side: measure(arguments, side, resolution) for side in ("ours", "peer")} for resolution in arguments.resolutions}
    for resolution, sides in results.items():
        ratio = sides["peer"]["seconds_per_kimg"] / sides["ours"]["seconds_per_kimg"]
        print(
            f"{resolution} px: ours {sides['ours']['seconds_per_kimg']:.0f}, peer {sides['peer']['seconds_per_kimg']:.0f} s/kimg, ratio {ratio:.2f}", flush=True
        )
    last = results[arguments.resolutions[-1]]
    report.write(
        "gan_step", last["ours"]["seconds_per_kimg"], "stylegan2-ada-pytorch", "checkout", last["peer"]["seconds_per_kimg"], "s/kimg",
        arguments.rounds, higher_is_better=False, resolutions=results, p=arguments.p, precision=arguments.precision, options=arguments.option,
        ratios={r: s["peer"]["seconds_per_kimg"] / s["ours"]["seconds_per_kimg"] for r, s in results.items()},
    )  # fmt: skip


def measure(arguments: argparse.Namespace, side: str, resolution: int) -> dict[str, Any]:
    """One side in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.gan_step", "--side", side, "--checkout", str(arguments.checkout), "--resolutions", str(resolution)]
    command += ["--p", str(arguments.p), "--rounds", str(arguments.rounds), "--precision", arguments.precision, "--device", arguments.device]
    command += ["--batch", str(arguments.batch)]
    command += [word for option in arguments.option for word in ("--option", option)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=Path(__file__).resolve().parents[1])
    if done.returncode:
        raise SystemExit(f"{side} at {resolution} px ended with status {done.returncode} (-9: most likely memory, try --batch 8):\n{done.stderr[-2000:]}")
    result: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    print(f"{resolution} px, {side}: {result}", flush=True)
    return result


def timed(phases: dict[str, Callable[[], Any]], intervals: dict[str, int], batch: int, arguments: argparse.Namespace) -> dict[str, Any]:
    """Seconds of each phase (the quickest of the rounds), and of a thousand images."""
    import torch

    def wait() -> None:
        if arguments.device.startswith("cuda"):
            torch.cuda.synchronize()

    seconds = {}
    for name, phase in phases.items():
        rounds = []
        for _ in range(arguments.rounds + 1):
            begun = time.perf_counter()
            phase()
            wait()
            rounds.append(time.perf_counter() - begun)
        seconds[name] = min(rounds[1:])
    step = sum(s / intervals[name] for name, s in seconds.items())
    return {"batch": batch, "phases": seconds, "seconds_per_kimg": step / batch * 1000, "threads": torch.get_num_threads()}


def sized(arguments: argparse.Namespace) -> dict[str, str]:
    """The batch as an option of the preset."""
    return {"batch": str(arguments.batch)} if arguments.batch else {}


def ours(arguments: argparse.Namespace) -> dict[str, Any]:
    """Our trainer's phases."""
    import numpy as np
    import torch
    from cosmop_gan_trainer.data import Images, TrainingSet
    from cosmop_gan_trainer.presets import configure
    from cosmop_gan_trainer.trainer import Trainer

    resolution, device = arguments.resolutions[0], torch.device(arguments.device)
    run = configure("auto", resolution, options=sized(arguments) | {"precision": arguments.precision} | dict(o.split("=", 1) for o in arguments.option))
    rng = np.random.default_rng(0)
    pixels = [rng.integers(0, 256, (resolution, resolution, 3), dtype=np.uint8) for _ in range(run.train.batch * 2)]
    trainer = Trainer(run, TrainingSet.build(Images(resolution, pixels, [0] * len(pixels)), run, device), device)
    trainer.controller.p = trainer.augment.p = arguments.p

    def twice(phase: Callable[[], None]) -> None:
        with trainer._differentiated_twice():
            phase()

    phases: dict[str, Callable[[], Any]] = {
        "generator": trainer._generator_phase,
        "path length": functools.partial(twice, trainer._path_length_phase),
        "discriminator": trainer._discriminator_phase,
        "penalty": functools.partial(twice, trainer._penalty_phase),
    }
    c = run.train
    return timed(phases, dict(zip(PHASES, (1, c.path_length_interval, 1, c.r1_interval), strict=True)), c.batch, arguments)


def peer(arguments: argparse.Namespace) -> dict[str, Any]:
    """The peer's phases, on random images."""
    import torch
    from cosmop_gan_trainer.presets import configure

    resolution, device = arguments.resolutions[0], torch.device(arguments.device)
    run = configure("auto", resolution, options=sized(arguments))
    theirs = nvidia_peer.Peer(arguments.checkout, run, device)
    theirs.pipe.p.copy_(torch.as_tensor(arguments.p))
    images = torch.randint(0, 256, [run.train.batch, 3, resolution, resolution], device=device).float() / 127.5 - 1
    names = dict(zip(PHASES, ("Gmain", "Greg", "Dmain", "Dreg"), strict=True))
    phases: dict[str, Callable[[], Any]] = {phase: functools.partial(theirs.phase, name, images) for phase, name in names.items()}
    c = run.train
    return timed(phases, dict(zip(PHASES, (1, c.path_length_interval, 1, c.r1_interval), strict=True)), c.batch, arguments)


if __name__ == "__main__":
    main()
