"""The training step: four phases, each with its own gradient, then the moving average and p (StyleGAN2, app. B; ADA, app. D)."""

from __future__ import annotations

import contextlib
import copy
import hashlib
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from cosmop_gan_trainer import losses
from cosmop_gan_trainer.augment import Augment, Controller
from cosmop_gan_trainer.config import RunConfig, TrainConfig
from cosmop_gan_trainer.data import TrainingSet
from cosmop_gan_trainer.discriminator import Discriminator
from cosmop_gan_trainer.errors import TrainerOptionError
from cosmop_gan_trainer.generator import Generator
from cosmop_gan_trainer.ops import HalfPrecision
from cosmop_gan_trainer.team import Team

GRADIENT_BOUND = 1e5
"""What a gradient that is not finite is replaced by (ADA's published training, for half precision)."""


def lazy_adam(network: nn.Module, config: TrainConfig, interval: int | None) -> torch.optim.Adam:
    """Adam, its rate and betas corrected for regularising in a step of its own every ``interval`` steps (StyleGAN2, app. B, "Lazy regularization")."""
    r = interval / (interval + 1) if interval else 1.0
    return torch.optim.Adam(
        network.parameters(), lr=config.learning_rate * r, betas=(config.beta1**r if config.beta1 else 0.0, config.beta2**r), eps=config.epsilon, fused=True
    )


def half_precision(config: TrainConfig, device: torch.device) -> HalfPrecision | None:
    """Of the upper blocks; None: full precision. ``auto`` is bf16 on a GPU that computes in it."""
    fast = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    if config.precision == "fp32" or (config.precision == "auto" and not fast):
        return None
    return HalfPrecision(torch.bfloat16, torch.channels_last if config.channels_last else torch.preserve_format)


def _seed(seed: int, step: int, phase: str, chunk: int) -> int:
    """A seed of its own for each use of randomness."""
    return int.from_bytes(hashlib.blake2b(f"{seed}/{step}/{phase}/{chunk}".encode(), digest_size=8).digest(), "big") >> 1


class _Pair(NamedTuple):
    """What draws and what judges, as it is called in a phase."""

    synthesis: Callable[[Tensor], Tensor]
    discriminator: Callable[[Tensor, Tensor | None], Tensor]


class Trainer:
    """Networks, optimisers and their state; ``step`` shows one batch of real images.

    A batch is computed in chunks, by one process or several. What is random in a chunk (latents, noise, mixing,
    augmentation) is drawn from generators seeded by the step, the phase and the chunk; which images it shows follows from
    their number. So a step is a function of the state alone: there is no random state to save.
    """

    def __init__(self, config: RunConfig, data: TrainingSet, device: torch.device, team: Team | None = None) -> None:
        """A fresh run."""
        self.config, self.device, self.data = config, device, data
        self.team = team or Team()
        c = config.train
        self.chunk = c.chunk or max(1, c.batch // self.team.size)
        self.chunks = c.batch // self.chunk
        if c.batch % self.chunk or self.chunk % min(config.network.minibatch_group, self.chunk) or self.chunks < self.team.size:
            raise TrainerOptionError(
                f"a batch of {c.batch} for {self.team.size} processes in chunks of {self.chunk}: the chunk must divide the batch, be a multiple of"
                f" minibatch_group ({config.network.minibatch_group}), and leave one for each process"
            )
        torch.manual_seed(c.seed)
        self.generator = Generator(config.network).to(device)
        self.discriminator = Discriminator(config.network).to(device)
        self.average = copy.deepcopy(self.generator).eval().requires_grad_(requires_grad=False)
        self.half = half_precision(c, device)
        self._compute_in(self.half)
        self._once = self._twice = _Pair(self.generator.synthesis, self.discriminator)
        if c.compile:
            self._once = _Pair(*(torch.compile(network, fullgraph=True, dynamic=False) for network in self._twice))
        self._networks = self._once
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
        self.team.say("step")
        self._generator_phase()
        if c.path_length_weight and self.steps % c.path_length_interval == 0:
            with self._differentiated_twice():
                self._path_length_phase()
        self._discriminator_phase()
        if c.r1_gamma and self.steps % c.r1_interval == 0:
            with self._differentiated_twice():
                self._penalty_phase()
        self.steps += 1
        self.images += c.batch
        self._move_average()
        self.controller.step(self.steps, self.team)
        self.augment.p = self.controller.p
        self.stats |= {"p": self.controller.p, "sign": self.controller.sign}

    @contextlib.contextmanager
    def _differentiated_twice(self) -> Iterator[None]:
        """Not compiled, and on CPU in full precision: torch 2.13's bf16 kernels end the process by SIGFPE in R1's second gradient (128 px, batch 32)."""
        if self.device.type == "cpu":
            self._compute_in(None)
        self._networks = self._twice
        yield
        self._networks = self._once
        self._compute_in(self.half)

    def _compute_in(self, half: HalfPrecision | None) -> None:
        self.generator.synthesis.half_precision = self.average.synthesis.half_precision = self.discriminator.half_precision = half

    def finite(self) -> bool:
        """Whether all weights are numbers."""
        return all(bool(torch.isfinite(p).all()) for net in (self.generator, self.discriminator) for p in net.parameters())

    def _generator_phase(self) -> None:
        w_mean = torch.zeros(self.config.network.w_dim, device=self.device)

        def loss(chunk: int) -> Tensor:
            real, labels, fake_labels = self._shown(chunk)
            fake, ws = self._fakes(self.chunk, fake_labels)
            w_mean.add_(ws[:, 0].detach().mean(0) / self.chunks)
            logits = self._judge(fake, fake_labels)
            if self.config.train.loss == "r3gan":
                return losses.relativistic_loss(logits, self._judge(real, labels))
            return losses.generator_loss(logits)

        self.discriminator.requires_grad_(requires_grad=False)
        self.stats["loss_g"] = self._descend("generator", self.g_adam, loss, also=[w_mean])
        self.discriminator.requires_grad_(requires_grad=True)
        self.generator.mapping.move_average(w_mean)

    def _path_length_phase(self) -> None:
        c = self.config.train
        length = torch.zeros([], device=self.device)

        def loss(_: int) -> Tensor:
            count = max(1, self.chunk // c.path_length_shrink)
            images, ws = self._fakes(count, self.data.random_labels(count))
            lengths = losses.path_lengths(images, ws)
            length.add_(lengths.detach().mean() / self.chunks)
            return losses.path_length_penalty(lengths, self.path_mean) * (c.path_length_weight * c.path_length_interval)

        self._descend("path length", self.g_adam, loss, also=[length])
        self.path_mean = self.path_mean.lerp(length, c.path_length_decay)
        self.stats["path_length"] = float(self.path_mean)

    def _discriminator_phase(self) -> None:
        criterion = losses.relativistic_loss if self.config.train.loss == "r3gan" else losses.discriminator_loss

        def loss(chunk: int) -> Tensor:
            real, labels, fake_labels = self._shown(chunk)
            with torch.no_grad():
                fake, _ = self._fakes(self.chunk, fake_labels)
            fake_logits = self._judge(fake, fake_labels)
            real_logits = self._judge(real, labels)
            self.controller.see(real_logits)
            return criterion(real_logits, fake_logits)

        self.stats["loss_d"] = self._descend("discriminator", self.d_adam, loss)

    def _penalty_phase(self) -> None:
        c = self.config.train

        def loss(chunk: int) -> Tensor:
            real, labels, fake_labels = self._shown(chunk)
            penalty = losses.gradient_penalty(lambda x: self._judge(x, labels), real)
            if c.loss == "r3gan":
                with torch.no_grad():
                    fake, _ = self._fakes(self.chunk, fake_labels)
                penalty = penalty + losses.gradient_penalty(lambda x: self._judge(x, fake_labels), fake)
            return penalty * (c.r1_gamma * c.r1_interval)

        self.stats["r1"] = self._descend("penalty", self.d_adam, loss) / c.r1_interval

    def _shown(self, chunk: int) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """A chunk's real images, their labels, and labels for as many fakes: those of the reals where each is paired with one (R3GAN)."""
        real, labels = self.data.draw(self.images + chunk * self.chunk, self.chunk)
        return real, labels, labels if self.config.train.loss == "r3gan" else self.data.random_labels(self.chunk)

    def _fakes(self, count: int, labels: Tensor | None) -> tuple[Tensor, Tensor]:
        """Images of fresh latents, some with two styles, and the w of each layer."""
        g, c = self.generator, self.config.train
        z = torch.randn(count, g.config.z_dim, device=self.device)
        ws = g.mapping(z, labels).unsqueeze(1).repeat(1, g.synthesis.layers, 1)
        if c.style_mixing:
            # From a random layer on, with probability style_mixing, another latent's style (StyleGAN, sec. 3.1).
            cut = int(torch.randint(1, g.synthesis.layers, [])) if float(torch.rand([])) < c.style_mixing else g.synthesis.layers
            other = g.mapping(torch.randn_like(z), labels)
            ws = torch.cat([ws[:, :cut], other.unsqueeze(1).expand(-1, g.synthesis.layers - cut, -1)], 1)
        return self._networks.synthesis(ws), ws

    def _judge(self, images: Tensor, labels: Tensor | None) -> Tensor:
        logits: Tensor = self._networks.discriminator(self.augment(images), labels)
        return logits

    def _descend(self, phase: str, optimiser: torch.optim.Adam, loss: Callable[[int], Tensor], also: Sequence[Tensor] = ()) -> float:
        """One step of an optimiser on the mean of the chunks' losses, which it returns; ``also`` is summed over the processes."""
        optimiser.zero_grad(set_to_none=True)
        total = torch.zeros([], device=self.device)
        for chunk in range(self.team.rank, self.chunks, self.team.size):
            torch.manual_seed(_seed(self.config.train.seed, self.steps, phase, chunk))
            part = loss(chunk) / self.chunks
            part.backward()  # type: ignore[no-untyped-call]
            total += part.detach()
        gradients = [p.grad for group in optimiser.param_groups for p in group["params"] if p.grad is not None]
        self.team.sum([*gradients, total, *also])
        for gradient in gradients:
            torch.nan_to_num(gradient, nan=0.0, posinf=GRADIENT_BOUND, neginf=-GRADIENT_BOUND, out=gradient)
        optimiser.step()
        return float(total)

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
        tensors: dict[str, Tensor] = {"path_mean": self.path_mean}
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

    def parameters(self) -> dict[str, int]:
        """Learned numbers in each network."""
        return {name: sum(math.prod(p.shape) for p in net.parameters()) for name, net in (("generator", self.generator), ("discriminator", self.discriminator))}
