"""Losses against what their formulas say, written out with autograd."""

from __future__ import annotations

import math

import torch
from cosmop_gan_trainer import losses
from torch import nn


def test_logistic_losses() -> None:
    real, fake = torch.tensor([1.0, -2.0]), torch.tensor([0.5, 3.0])
    sigmoid = torch.sigmoid
    assert torch.allclose(losses.generator_loss(fake), -sigmoid(fake).log().mean())
    assert torch.allclose(losses.discriminator_loss(real, fake), -sigmoid(real).log().mean() - (1 - sigmoid(fake)).log().mean(), atol=1e-6)
    assert torch.allclose(losses.relativistic_loss(real, fake), -sigmoid(real - fake).log().mean())


def test_r1_of_a_linear_judge_is_half_its_squared_weights() -> None:
    weights = torch.randn(3, 4, 4, dtype=torch.float64)
    penalty = losses.gradient_penalty(lambda x: (x * weights).sum((1, 2, 3)), torch.randn(5, 3, 4, 4, dtype=torch.float64))
    assert torch.allclose(penalty, weights.square().sum() / 2)


def test_r1_equals_one_backward_an_image_and_reaches_the_weights() -> None:
    torch.manual_seed(0)
    judge = nn.Sequential(nn.Flatten(), nn.Linear(12, 8), nn.Softplus(), nn.Linear(8, 1), nn.Flatten(0)).double()
    images = torch.randn(4, 3, 2, 2, dtype=torch.float64)
    total = torch.zeros([], dtype=torch.float64)
    for image in images:
        x = image[None].clone().requires_grad_()
        (gradient,) = torch.autograd.grad(judge(x)[0], x, create_graph=True)
        total = total + gradient.square().sum() / 2 / len(images)
    fast = losses.gradient_penalty(judge, images)
    assert torch.allclose(fast, total)
    for a, b in zip(*(torch.autograd.grad(v, [p for p in judge.parameters() if p.ndim == 2]) for v in (fast, total)), strict=True):
        assert torch.allclose(a, b)


def test_path_lengths_of_a_linear_generator_are_those_of_its_jacobian() -> None:
    torch.manual_seed(0)
    jacobian = torch.randn(3 * 4 * 4, 2 * 5, dtype=torch.float64)
    ws = torch.randn(6, 2, 5, dtype=torch.float64, requires_grad=True)
    images = (ws.flatten(1) @ jacobian.t()).reshape(6, 3, 4, 4)
    state = torch.get_rng_state()
    lengths = losses.path_lengths(images, ws)
    torch.set_rng_state(state)
    noise = torch.randn_like(images) / math.sqrt(16)
    expected = (noise.flatten(1) @ jacobian).reshape(6, 2, 5).square().sum(2).mean(1).sqrt()
    assert torch.allclose(lengths, expected)


def test_the_path_length_penalty_is_the_squared_distance_to_the_mean() -> None:
    lengths = torch.tensor([1.0, 3.0], requires_grad=True)
    penalty = losses.path_length_penalty(lengths, torch.tensor(0.5))
    assert torch.allclose(penalty, torch.tensor((0.5**2 + 2.5**2) / 2))
    penalty.backward()
    assert torch.allclose(lengths.grad, torch.tensor([0.5, 2.5]))
