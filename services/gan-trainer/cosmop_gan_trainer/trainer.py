"""The training step: four phases, each with its own gradient, then the moving average and p (StyleGAN2, app. B; ADA, app. D)."""

from __future__ import annotations

import copy
import math
from typing import Any

import torch
from torch import Tensor, nn

from cosmop_gan_trainer import losses
from cosmop_gan_trainer.augment import Augment, Controller
from cosmop_gan_trainer.config import RunConfig, TrainConfig
from cosmop_gan_trainer.data import TrainingSet
from cosmop_gan_trainer.discriminator import Discriminator
from cosmop_gan_trainer.generator import Generator

GRADIENT_BOUND = 1e5
"""What a gradient that is not finite is replaced by (ADA's published training, for half precision)."""


def lazy_adam(network: nn.Module, config: TrainConfig, interval: int | None) -> torch.optim.Adam:
    """Adam, its rate and betas corrected for regularising in a step of its own every ``interval`` steps (StyleGAN2, app. B, "Lazy regularization")."""
    r = interval / (interval + 1) if interval else 1.0
    return torch.optim.Adam(
        network.parameters(), lr=config.learning_rate * r, betas=(config.beta1**r if config.beta1 else 0.0, config.beta2**r), eps=config.epsilon, fused=True
    )


class Trainer:
    """Networks, optimisers and their state; ``step`` shows one batch of real images.

    All randomness of a step is torch's global generators (latents, noise, mixing, augmentation), which ``state`` saves;
    the order of the images is a function of how many were shown.
    """

    def __init__(self, config: RunConfig, data: TrainingSet | None, device: torch.device) -> None:
        """A fresh run. With ``data`` None its state can be looked at and not trained on."""
        self.config, self.device, self.data = config, device, data
        c = config.train
        torch.manual_seed(c.seed)
        self.generator = Generator(config.network).to(device)
        self.discriminator = Discriminator(config.network).to(device)
        self.average = copy.deepcopy(self.generator).eval().requires_grad_(requires_grad=False)
        half = torch.bfloat16 if c.precision == "bf16" else None
        self.generator.synthesis.half_dtype = self.average.synthesis.half_dtype = self.discriminator.half_dtype = half
        self.g_adam = lazy_adam(self.generator, c, c.path_length_interval if c.path_length_weight else None)
        self.d_adam = lazy_adam(self.discriminator, c, c.r1_interval if c.r1_gamma else None)
        self.augment = Augment()
        self.controller = Controller(c)
        self.path_mean = torch.zeros([], device=device)
        self.steps = 0
        self.images = 0
        self.stats: dict[str, float] = {}

    @property
    def kimg(self) -> float:
        """Thousands of real images shown."""
        return self.images / 1000

    def step(self) -> None:
        """Shows one batch. The phases in the order of the published training: G, path length, D, R1."""
        c = self.config.train
        assert self.data is not None
        real, labels = self.data.draw(self.images, c.batch)
        self._generator_phase(real, labels)
        if c.path_length_weight and self.steps % c.path_length_interval == 0:
            self._path_length_phase()
        self._discriminator_phase(real, labels)
        if c.r1_gamma and self.steps % c.r1_interval == 0:
            self._penalty_phase(real, labels)
        self.steps += 1
        self.images += c.batch
        self._move_average()
        self.controller.step(self.steps)
        self.augment.p = self.controller.p
        self.stats |= {"p": self.controller.p, "sign": self.controller.sign}

    def finite(self) -> bool:
        """Whether all weights are numbers."""
        return all(bool(torch.isfinite(p).all()) for net in (self.generator, self.discriminator) for p in net.parameters())

    def _fakes(self, count: int, labels: Tensor | None, *, average: bool = False) -> tuple[Tensor, Tensor]:
        """Images of fresh latents, some with two styles, and the w of each layer."""
        g, c = self.generator, self.config.train
        z = torch.randn(count, g.config.z_dim, device=self.device)
        ws = g.mapping(z, labels, update_average=average).unsqueeze(1).repeat(1, g.synthesis.layers, 1)
        if c.style_mixing:
            # From a random layer on, with probability style_mixing, another latent's style (StyleGAN, sec. 3.1).
            cut = torch.where(torch.rand([]) < c.style_mixing, torch.randint(1, g.synthesis.layers, []), torch.tensor(g.synthesis.layers))
            other = g.mapping(torch.randn_like(z), labels)
            ws = torch.cat([ws[:, :cut], other.unsqueeze(1).expand(-1, g.synthesis.layers - int(cut), -1)], 1)
        return g.synthesis(ws), ws

    def _judge(self, images: Tensor, labels: Tensor | None) -> Tensor:
        logits: Tensor = self.discriminator(self.augment(images), labels)
        return logits

    def _generator_phase(self, real: Tensor, labels: Tensor | None) -> None:
        fake_labels = self._labels(self.config.train.batch, labels)
        self.discriminator.requires_grad_(requires_grad=False)
        fake, _ = self._fakes(self.config.train.batch, fake_labels, average=True)
        logits = self._judge(fake, fake_labels)
        relativistic = self.config.train.loss == "r3gan"
        loss = losses.relativistic_loss(logits, self._judge(real, labels)) if relativistic else losses.generator_loss(logits)
        self._descend(loss, self.g_adam)
        self.discriminator.requires_grad_(requires_grad=True)
        self.stats["loss_g"] = float(loss.detach())

    def _path_length_phase(self) -> None:
        c = self.config.train
        count = max(1, c.batch // c.path_length_shrink)
        images, ws = self._fakes(count, self._labels(count, None))
        penalty, self.path_mean = losses.path_length_penalty(losses.path_lengths(images, ws), self.path_mean, c.path_length_decay)
        self._descend(penalty * (c.path_length_weight * c.path_length_interval), self.g_adam)
        self.stats["path_length"] = float(self.path_mean)

    def _discriminator_phase(self, real: Tensor, labels: Tensor | None) -> None:
        fake_labels = self._labels(self.config.train.batch, labels)
        with torch.no_grad():
            fake, _ = self._fakes(self.config.train.batch, fake_labels)
        fake_logits = self._judge(fake, fake_labels)
        real_logits = self._judge(real, labels)
        criterion = losses.relativistic_loss if self.config.train.loss == "r3gan" else losses.discriminator_loss
        loss = criterion(real_logits, fake_logits)
        self._descend(loss, self.d_adam)
        self.controller.see(real_logits)
        self.stats["loss_d"] = float(loss.detach())

    def _penalty_phase(self, real: Tensor, labels: Tensor | None) -> None:
        c = self.config.train
        penalty = losses.gradient_penalty(lambda x: self._judge(x, labels), real)
        if c.loss == "r3gan":
            fake_labels = self._labels(c.batch, labels)
            with torch.no_grad():
                fake, _ = self._fakes(c.batch, fake_labels)
            penalty = penalty + losses.gradient_penalty(lambda x: self._judge(x, fake_labels), fake)
        self._descend(penalty * (c.r1_gamma * c.r1_interval), self.d_adam)
        self.stats["r1"] = float(penalty.detach())

    def _labels(self, count: int, like: Tensor | None) -> Tensor | None:
        assert self.data is not None
        return self.data.random_labels(count) if like is None or self.config.train.loss != "r3gan" else like

    def _descend(self, loss: Tensor, optimiser: torch.optim.Adam) -> None:
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        for group in optimiser.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    torch.nan_to_num(p.grad, nan=0.0, posinf=GRADIENT_BOUND, neginf=-GRADIENT_BOUND, out=p.grad)
        optimiser.step()

    @torch.no_grad()
    def _move_average(self) -> None:
        """The generator that is kept: a moving average of weights with a half-life in images (Karras et al. 2018, sec. 4.2)."""
        c = self.config.train
        half_life = c.ema_kimg * 1000
        if c.ema_ramp:
            half_life = min(half_life, self.images * c.ema_ramp)
        beta = 0.5 ** (c.batch / max(half_life, 1e-8))
        torch._foreach_lerp_(list(self.average.parameters()), list(self.generator.parameters()), 1 - beta)
        for kept, now in zip(self.average.buffers(), self.generator.buffers(), strict=True):
            kept.copy_(now)

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Everything that the next step depends on: tensors, and numbers for JSON."""
        tensors: dict[str, Tensor] = {"path_mean": self.path_mean, "rng.cpu": torch.get_rng_state()}
        if self.device.type == "cuda":
            tensors["rng.cuda"] = torch.cuda.get_rng_state(self.device)
        for name, net in (("generator", self.generator), ("discriminator", self.discriminator), ("average", self.average)):
            tensors |= {f"{name}.{k}": v for k, v in net.state_dict().items()}
        for name, adam in (("g_adam", self.g_adam), ("d_adam", self.d_adam)):
            tensors |= {f"{name}.{i}.{k}": v for i, slot in adam.state_dict()["state"].items() for k, v in slot.items()}
        numbers = {"steps": self.steps, "images": self.images, "controller": self.controller.state(), "stats": self.stats}
        return {k: v.detach().clone().contiguous() for k, v in tensors.items()}, numbers

    def restore(self, tensors: dict[str, Tensor], numbers: dict[str, Any]) -> None:
        """Goes on from a state, to the bit."""
        for name, net in (("generator", self.generator), ("discriminator", self.discriminator), ("average", self.average)):
            net.load_state_dict({k.removeprefix(f"{name}."): v for k, v in tensors.items() if k.startswith(f"{name}.")})
        for name, adam in (("g_adam", self.g_adam), ("d_adam", self.d_adam)):
            slots: dict[int, dict[str, Tensor]] = {}
            for key, value in tensors.items():
                if key.startswith(f"{name}."):
                    _, index, slot = key.split(".")
                    slots.setdefault(int(index), {})[slot] = value
            adam.load_state_dict({"state": slots, "param_groups": adam.state_dict()["param_groups"]})
        self.path_mean = tensors["path_mean"].to(self.device)
        self.steps, self.images, self.stats = int(numbers["steps"]), int(numbers["images"]), dict(numbers["stats"])
        self.controller.restore(numbers["controller"])
        self.augment.p = self.controller.p
        torch.set_rng_state(tensors["rng.cpu"].cpu())
        if self.device.type == "cuda" and "rng.cuda" in tensors:
            torch.cuda.set_rng_state(tensors["rng.cuda"].cpu(), self.device)

    def parameters(self) -> dict[str, int]:
        """Learned numbers in each network."""
        return {name: sum(math.prod(p.shape) for p in net.parameters()) for name, net in (("generator", self.generator), ("discriminator", self.discriminator))}
