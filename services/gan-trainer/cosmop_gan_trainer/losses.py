"""The losses, each a function of what the networks said (StyleGAN2, sec. 3 and app. B; R3GAN, eq. 1 to 3)."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812


def generator_loss(fake_logits: Tensor) -> Tensor:
    """Non-saturating logistic loss, E[softplus(-D(G(z)))] (Goodfellow et al. 2014)."""
    return F.softplus(-fake_logits).mean()


def discriminator_loss(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """Logistic loss, E[softplus(D(G(z)))] + E[softplus(-D(x))]."""
    return F.softplus(fake_logits).mean() + F.softplus(-real_logits).mean()


def relativistic_loss(winner_logits: Tensor, loser_logits: Tensor) -> Tensor:
    """E[softplus(-(D(winner) - D(loser)))]: the generator's with its images as winners, the discriminator's with real ones (R3GAN, eq. 2)."""
    return F.softplus(loser_logits - winner_logits).mean()


def gradient_penalty(judge: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
    """E[||grad D(x)||^2] / 2 at ``images``: R1 on real ones, R2 on fakes (Mescheder et al. 2018, eq. 9).

    Args:
        judge: images to logits, augmentation included; must be twice differentiable.
    """
    images = images.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(judge(images).sum(), images, create_graph=True)
    return gradient.square().sum((1, 2, 3)).mean() / 2


def path_lengths(images: Tensor, ws: Tensor) -> Tensor:
    """How far an image moves when its w does, [n]: ||J^T y|| with y ~ N(0, I) / sqrt(pixels) (StyleGAN2, sec. 3.2).

    Args:
        images: [n, 3, h, w], made from ``ws``.
        ws: [n, layers, w_dim], requiring gradients.
    """
    noise = torch.randn_like(images) / math.sqrt(images.shape[2] * images.shape[3])
    (gradient,) = torch.autograd.grad((images * noise).sum(), ws, create_graph=True)
    return gradient.square().sum(2).mean(1).sqrt()


def path_length_penalty(lengths: Tensor, mean: Tensor) -> Tensor:
    """E[(length - mean)^2] with the running mean of earlier lengths (StyleGAN2, eq. 4)."""
    return (lengths - mean).square().mean()
