"""NVIDIA's own networks, loss and augmentation, from a checkout given by its path, driven as its ``training_loop.py`` says.

Nothing of the checkout is part of this project. What is written here are facts of its interface and of its published settings.
"""

from __future__ import annotations

import copy
import math
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from cosmop_gan_trainer.config import RunConfig
from torch import Tensor

AUGMENTATIONS = "xflip rotate90 xint scale rotate aniso xfrac brightness contrast lumaflip hue saturation"


def require(checkout: Path) -> None:
    """Ends with what to do where the folder is no checkout."""
    if not (checkout / "training" / "networks.py").exists():
        raise SystemExit(f"{checkout} is no checkout of stylegan2-ada-pytorch: clone it and name its folder with --checkout")


class Peer:
    """The peer's trainer with the shape and the constants of one of our runs."""

    def __init__(self, checkout: Path, run: RunConfig, device: torch.device) -> None:
        """Imports the checkout's modules; its CUDA extensions are not built on CPU."""
        os.environ["PYTHONWARNINGS"] = "ignore"
        sys.path.insert(0, str(checkout.resolve()))
        from training.augment import AugmentPipe  # type: ignore[import-not-found]
        from training.loss import StyleGAN2Loss  # type: ignore[import-not-found]
        from training.networks import Discriminator, Generator  # type: ignore[import-not-found]

        n, c = run.network, run.train
        self.run, self.device = run, device
        half = {"num_fp16_res": n.half_resolutions, "conv_clamp": 256} if device.type == "cuda" else {"num_fp16_res": 0, "conv_clamp": None}
        size = {"channel_base": n.channel_base, "channel_max": n.channel_max} | half
        common = {"c_dim": 0, "img_resolution": n.resolution, "img_channels": 3}
        torch.manual_seed(c.seed)
        mapping = {"num_layers": n.mapping_layers}
        self.generator = Generator(z_dim=n.z_dim, w_dim=n.w_dim, mapping_kwargs=mapping, synthesis_kwargs=size, **common).to(device)
        self.discriminator = Discriminator(epilogue_kwargs={"mbstd_group_size": n.minibatch_group}, **size, **common).to(device)
        self.average = copy.deepcopy(self.generator).eval().requires_grad_(requires_grad=False)
        self.pipe = AugmentPipe(**dict.fromkeys(AUGMENTATIONS.split(), 1)).to(device).requires_grad_(requires_grad=False)
        self.pipe.p.copy_(torch.zeros([]))
        self.loss = StyleGAN2Loss(
            device, self.generator.mapping, self.generator.synthesis, self.discriminator, self.pipe,
            style_mixing_prob=c.style_mixing, r1_gamma=c.r1_gamma, pl_weight=c.path_length_weight,
        )  # fmt: skip
        self.adams = {
            "G": self._adam(self.generator, c.path_length_interval if c.path_length_weight else 0),
            "D": self._adam(self.discriminator, c.r1_interval if c.r1_gamma else 0),
        }
        self.none = torch.zeros([c.batch, 0], device=device)
        self.steps = self.images = 0

    def _adam(self, network: Any, interval: int) -> torch.optim.Adam:
        c = self.run.train
        r = interval / (interval + 1) if interval else 1.0
        return torch.optim.Adam(network.parameters(), lr=c.learning_rate * r, betas=(0.0, c.beta2**r), eps=c.epsilon)

    def phase(self, name: str, images: Tensor) -> None:
        """One optimiser step of ``Gmain``, ``Greg``, ``Dmain`` or ``Dreg`` on images [batch, 3, r, r]."""
        c = self.run.train
        network = self.generator if name[0] == "G" else self.discriminator
        for other in (self.generator, self.discriminator):
            other.requires_grad_(other is network)
        self.adams[name[0]].zero_grad(set_to_none=True)
        gain = {"Greg": c.path_length_interval, "Dreg": c.r1_interval}.get(name, 1)
        z = torch.randn([c.batch, self.run.network.z_dim], device=self.device)
        self.loss.accumulate_gradients(phase=name, real_img=images, real_c=self.none, gen_z=z, gen_c=self.none, sync=True, gain=gain)
        for p in network.parameters():
            if p.grad is not None:
                torch.nan_to_num(p.grad, nan=0, posinf=1e5, neginf=-1e5, out=p.grad)
        self.adams[name[0]].step()

    def step(self, images: Tensor) -> None:
        """All phases that are due, the moving average, and p: its controller reads the signs that the loss reports."""
        c = self.run.train
        self.phase("Gmain", images)
        if c.path_length_weight and self.steps % c.path_length_interval == 0:
            self.phase("Greg", images)
        self.phase("Dmain", images)
        if c.r1_gamma and self.steps % c.r1_interval == 0:
            self.phase("Dreg", images)
        self.steps += 1
        self.images += c.batch
        self._move_average()
        if c.ada_target and self.steps % c.ada_interval == 0:
            self._adjust()

    @torch.no_grad()
    def _move_average(self) -> None:
        c = self.run.train
        half_life = min(c.ema_kimg * 1000, self.images * c.ema_ramp) if c.ema_ramp else c.ema_kimg * 1000
        beta = 0.5 ** (c.batch / max(half_life, 1e-8))
        for kept, now in zip(self.average.parameters(), self.generator.parameters(), strict=True):
            kept.copy_(now.lerp(kept, beta))
        for kept, now in zip(self.average.buffers(), self.generator.buffers(), strict=True):
            kept.copy_(now)

    def _adjust(self) -> None:
        from torch_utils import training_stats  # type: ignore[import-not-found]

        c = self.run.train
        if not hasattr(self, "signs"):
            self.signs = training_stats.Collector(regex="Loss/signs/real")
        self.signs.update()
        sign = float(self.signs["Loss/signs/real"])
        if math.isfinite(sign):
            change = float(np.sign(sign - c.ada_target)) * c.batch * c.ada_interval / (c.ada_kimg * 1000)
            self.pipe.p.copy_((self.pipe.p + change).clamp(min=0))

    @torch.no_grad()
    def samples(self, seeds: range) -> np.ndarray:
        """Images of the averaged generator, one a seed: [n, r, r, 3]."""
        z = torch.stack([torch.randn(self.run.network.z_dim, generator=torch.Generator().manual_seed(s)) for s in seeds]).to(self.device)
        images = self.average(z, None, noise_mode="const")
        return np.asarray((images * 127.5 + 127.5).round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy())
