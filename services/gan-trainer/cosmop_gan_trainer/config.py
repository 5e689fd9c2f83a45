"""What a training run is made of: the network and training constants, and how a run is watched. No torch in here.

Constants: Karras et al., "Analyzing and Improving the Image Quality of StyleGAN" (StyleGAN2, CVPR 2020), and
"Training Generative Adversarial Networks with Limited Data" (ADA, NeurIPS 2020); the section is named at each.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Precision = Literal["fp32", "bf16", "auto"]


class NetworkConfig(BaseModel):
    """Shape of the generator and the discriminator. Travels with every snapshot, so that its weights describe themselves."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    resolution: int = Field(ge=8, le=1024)
    """Side of the square images, a power of two."""
    classes: tuple[str, ...] = ()
    """Class names of a conditional network, in the order of its one-hot labels; empty: unconditional."""
    z_dim: int = Field(default=512, ge=1)
    """StyleGAN2, app. B: latent code z and intermediate latent w both have 512 components."""
    w_dim: int = Field(default=512, ge=1)
    mapping_layers: int = Field(default=8, ge=1)
    """Fully connected layers from z to w: 8 (StyleGAN2, app. B), 2 for ADA's auto and cifar set-ups (ADA, app. C)."""
    channel_base: int = Field(default=32768, ge=1)
    """Feature maps at resolution r: min(channel_base / r, channel_max). StyleGAN2 config F: 32768."""
    channel_max: int = Field(default=512, ge=1)
    half_resolutions: int = Field(default=4, ge=0)
    """The highest so many resolutions run in half precision where that is asked for (ADA, app. C: the top 4)."""
    minibatch_group: int = Field(default=4, ge=1)
    """Images over which the discriminator's minibatch standard deviation is taken (StyleGAN2, app. B)."""

    def channels(self, resolution: int) -> int:
        """Feature maps at a resolution."""
        return max(1, min(self.channel_base // resolution, self.channel_max))

    @property
    def block_resolutions(self) -> tuple[int, ...]:
        """4, 8, ... up to the output."""
        return tuple(2**k for k in range(2, self.resolution.bit_length()))

    def half(self, resolution: int) -> bool:
        """Whether a block is among the highest ``half_resolutions`` (the 4x4 one never is)."""
        top = [r for r in self.block_resolutions if r > 4][-self.half_resolutions :] if self.half_resolutions else []  # noqa: PLR2004 - the constant's size
        return resolution in top


class TrainConfig(BaseModel):
    """How the networks are trained."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    batch: int = Field(default=32, ge=1)
    """Real images a step, over all processes."""
    chunk: int = Field(default=0, ge=0)
    """Images whose gradients are computed at once, to save memory; 0: the batch, or each process' share of it."""
    loss: Literal["stylegan2", "r3gan"] = "stylegan2"
    """Non-saturating logistic with R1 (StyleGAN2), or the relativistic pairing with R1 + R2 (R3GAN, NeurIPS 2024)."""
    learning_rate: float = Field(default=0.002, gt=0)
    """Adam, before the correction for lazy regularisation (StyleGAN2, app. B)."""
    beta1: float = Field(default=0.0, ge=0, lt=1)
    beta2: float = Field(default=0.99, gt=0, lt=1)
    epsilon: float = Field(default=1e-8, gt=0)
    r1_gamma: float = Field(default=10.0, ge=0)
    """Weight of R1, gamma/2 E[||grad D(x)||^2] (Mescheder et al. 2018; StyleGAN2, app. B)."""
    r1_interval: int = Field(default=16, ge=1)
    """R1 every so many steps, times as many (lazy regularisation, StyleGAN2, sec. 3.1)."""
    path_length_weight: float = Field(default=2.0, ge=0)
    """Weight of the path length regulariser; 0: none (StyleGAN2, sec. 3.2)."""
    path_length_interval: int = Field(default=4, ge=1)
    path_length_decay: float = Field(default=0.01, gt=0, le=1)
    path_length_shrink: int = Field(default=2, ge=1)
    """The regulariser sees batch / so many images, to save memory (StyleGAN2, app. B)."""
    style_mixing: float = Field(default=0.9, ge=0, le=1)
    """Probability of two latents in one image (StyleGAN, sec. 3.1)."""
    ema_kimg: float = Field(default=10.0, gt=0)
    """Half-life of the generator's moving average, thousands of images."""
    ema_ramp: float = Field(default=0.0, ge=0)
    """The half-life is at most this share of the images shown so far; 0: no ramp (ADA, app. C: 0.05 for auto)."""
    ada_target: float = Field(default=0.6, ge=0, le=1)
    """Wanted mean sign of D on reals; 0: no augmentation (ADA, sec. 3.1)."""
    ada_interval: int = Field(default=4, ge=1)
    """Steps between adjustments of p."""
    ada_kimg: float = Field(default=500.0, gt=0)
    """Thousands of images in which p could go from 0 to 1 (ADA, sec. 3.1)."""
    ada_cap: float = Field(default=0.8, ge=0, le=1)
    """p never exceeds it. ADA, sec. 3 and fig. 4: augmentations leak into the samples when p comes near 1; the published code sets no bound."""
    mirror: bool = False
    """Shows each image's mirror image too."""
    crop: Literal["centre", "fit"] = "centre"
    """How an image becomes square: its centre is cut out, or all of it is fitted between black bars."""
    precision: Precision = "fp32"
    """Of the upper blocks. auto: bf16 on a GPU that computes in it, as the published training is in mixed precision.
    bf16 has the exponents of fp32, so that fp16's scaling of weights and styles (ADA, app. C) is not needed."""
    channels_last: bool = False
    """Activations of the half-precision blocks lie in memory pixel by pixel, as tensor cores like them."""
    compile: bool = False
    """torch.compile for the phases that are differentiated once (it cannot differentiate twice: pytorch issue 91469). It takes a C++
    compiler on CPU or Triton on a GPU, and minutes at every start: for long runs."""
    seed: int = Field(default=0, ge=0)


class WatchConfig(BaseModel):
    """How a run is cut into snapshots, judged and ended."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    protocol: str = "fid"
    """Protocol of the evaluations, as fid-evaluator names it."""
    measures: str = ""
    """Further measures, separated by commas: "kid,prdc"."""
    max_images: int = Field(default=0, ge=0)
    """Images of each set in an evaluation; 0: all."""
    evaluate: bool = True
    """False: snapshots are stored and nobody is asked to judge them."""
    finalise_seconds: float = Field(default=600.0, ge=0)
    """How long the finished run waits for its last evaluations."""
    patience: int = Field(default=5, ge=0)
    """Training ends when so many snapshots in a row were judged worse than the best before them; 0: never."""
    guard_kimg: float = Field(default=200.0, ge=0)
    """Training ends when for so long no augmentation held the discriminator back, or when recall collapsed; 0: no guard."""
    initial_snapshot: bool = True
    """A snapshot before the first step, as the paper's Table I has it."""
    checkpoint_seconds: float = Field(default=60.0, gt=0)
    """At least so often the state is saved."""
    keep_checkpoints: int = Field(default=2, ge=1)
    conditional: bool = False
    """Learns all classes of the dataset version at once, each under its name."""


class RunConfig(BaseModel):
    """All that shapes a run."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    preset: str
    network: NetworkConfig
    train: TrainConfig
    watch: WatchConfig

    def flat(self) -> dict[str, Any]:
        """Every setting by its name, for records and reports."""
        return {"preset": self.preset} | self.network.model_dump(mode="json") | self.train.model_dump() | self.watch.model_dump()
