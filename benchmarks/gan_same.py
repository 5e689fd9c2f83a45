"""Whether our networks are the published ones: with NVIDIA's weights, ours must draw the same images, judge alike and have the same R1.

    python -m benchmarks.gan_same --checkout DIR [--resolutions 16 32 64] [--preset auto]

``DIR`` is a checkout of github.com/NVlabs/stylegan2-ada-pytorch. All weights are moved off their start first, so that biases and
noise count. Says the largest difference, relative to the largest value: rounding in fp32 leaves about 1e-6.
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path

import torch
from cosmop_gan_trainer import losses
from cosmop_gan_trainer.discriminator import Discriminator
from cosmop_gan_trainer.generator import Generator
from cosmop_gan_trainer.presets import configure
from torch import Tensor

from benchmarks import nvidia_peer, report

_NAMES = (
    (r"synthesis\.blocks\.0\.constant", "synthesis.b4.const"), (r"mapping\.layers\.(\d+)", r"mapping.fc\1"), (r"\.up\.", ".conv0."), (r"\.conv\.", ".conv1."),
    (r"\.to_rgb\.", ".torgb."), (r"\.noise$", ".noise_const"), ("w_average", "w_avg"),
)  # fmt: skip


def main() -> None:
    """Compares, prints and stores."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--checkout", type=Path, required=True, help="checkout of NVIDIA's stylegan2-ada-pytorch")
    parser.add_argument("--resolutions", type=int, nargs="+", default=[16, 32, 64])
    parser.add_argument("--preset", default="auto")
    arguments = parser.parse_args()
    nvidia_peer.require(arguments.checkout)
    differences = {resolution: compare(arguments.checkout, arguments.preset, resolution) for resolution in arguments.resolutions}
    for resolution, found in differences.items():
        print(f"{resolution} px: " + ", ".join(f"{name} {value:.1e}" for name, value in found.items()), flush=True)
    report.store("gan_same", relative_differences=differences, preset=arguments.preset, peer="stylegan2-ada-pytorch")


def compare(checkout: Path, preset: str, resolution: int) -> dict[str, float]:
    """Relative differences of images, logits and R1."""
    run = configure(preset, resolution)
    peer = nvidia_peer.Peer(checkout, run, torch.device("cpu"))
    generator, discriminator = Generator(run.network), Discriminator(run.network)
    with torch.no_grad():
        for weight in (*peer.generator.parameters(), *peer.discriminator.parameters()):
            weight.add_(0.1 * torch.randn(weight.shape))
        theirs = dict(peer.generator.named_parameters()) | dict(peer.generator.named_buffers())
        for name, weight in (*generator.named_parameters(), *generator.named_buffers()):
            if not name.endswith(".fir"):
                weight.copy_(theirs[published(name)])
        # The discriminator's layers come in the same order in both.
        for ours, their in zip(discriminator.parameters(), peer.discriminator.parameters(), strict=True):
            ours.copy_(their)
        z, images = torch.randn(8, run.network.z_dim), torch.randn(8, 3, resolution, resolution).clamp(-1, 1)
        drawn = relative(generator(z, fixed_noise=True), peer.generator(z, None, noise_mode="const"))
        judged = relative(discriminator(images), peer.discriminator(images, None).squeeze(1))
    penalty = relative(losses.gradient_penalty(discriminator, images).detach(), losses.gradient_penalty(lambda x: peer.discriminator(x, None), images).detach())
    return {"images": drawn, "logits": judged, "R1": penalty}


def published(name: str) -> str:
    """Our name of a generator's tensor as the published networks have it."""
    name = re.sub(r"synthesis\.blocks\.(\d+)\.(?!constant)", lambda found: f"synthesis.b{4 << int(found[1])}.", name)
    for ours, theirs in _NAMES:
        name = re.sub(ours, theirs, name)
    return name


def relative(ours: Tensor, theirs: Tensor) -> float:
    """The largest difference, in parts of the largest value."""
    return float((ours - theirs).abs().max() / theirs.abs().max())


if __name__ == "__main__":
    main()
