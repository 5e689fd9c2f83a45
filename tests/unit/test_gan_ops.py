"""Each operation against a slow reference in float64, values and gradients."""

from __future__ import annotations

import math

import pytest
import torch
from cosmop_gan_trainer import filters
from cosmop_gan_trainer.discriminator import minibatch_deviation
from cosmop_gan_trainer.ops import EqualConv2d, EqualLinear, activate, modulated_conv2d
from torch.autograd import gradcheck, gradgradcheck
from torch.nn import functional as F  # noqa: N812

KERNEL = torch.outer(torch.tensor([1.0, 3, 3, 1]), torch.tensor([1.0, 3, 3, 1])).double() / 64


def random(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(math.prod(shape)))


def slow_upfirdn(x: torch.Tensor, f: torch.Tensor, up: int, down: int, before: int, after: int) -> torch.Tensor:
    """Zero insertion, padding, correlation, decimation, as loops over pixels."""
    n, c, h, w = x.shape
    wide = torch.zeros(n, c, h * up + before + after, w * up + before + after, dtype=x.dtype)
    wide[:, :, before : before + h * up : up, before : before + w * up : up] = x
    k = f.shape[0]
    rows = range(0, wide.shape[2] - k + 1, down)
    columns = range(0, wide.shape[3] - k + 1, down)
    return torch.stack([torch.stack([(wide[:, :, i : i + k, j : j + k] * f).sum((2, 3)) for j in columns], -1) for i in rows], -2)


def test_the_kernel_is_binomial_and_sums_to_one() -> None:
    assert torch.allclose(filters.kernel().double(), KERNEL)


def test_upsampling_equals_the_loops_and_keeps_a_constant_inside() -> None:
    x = random(2, 3, 5, 7)
    assert torch.allclose(filters.upsample(x, KERNEL), slow_upfirdn(x, KERNEL * 4, 2, 1, 2, 1), atol=1e-12)
    flat = filters.upsample(torch.ones(1, 1, 6, 6, dtype=torch.float64), KERNEL)
    assert torch.allclose(flat[..., 1:-1, 1:-1], torch.ones(10, 10, dtype=torch.float64))


def test_downsampling_equals_the_loops() -> None:
    x = random(2, 3, 6, 8)
    assert torch.allclose(filters.downsample(x, KERNEL), slow_upfirdn(x, KERNEL, 1, 2, 1, 1), atol=1e-12)


def test_negative_padding_crops() -> None:
    x = random(1, 1, 8, 8)
    assert torch.allclose(filters.fir(x, KERNEL, (-1, 0)), slow_upfirdn(x[..., 1:, 1:], KERNEL, 1, 1, 0, 0), atol=1e-12)


@pytest.mark.parametrize("resample", [filters.upsample, filters.downsample])
def test_resampling_differentiates_twice(resample) -> None:
    x = random(1, 2, 4, 4).requires_grad_()
    assert gradcheck(lambda v: resample(v, KERNEL), (x,))
    assert gradgradcheck(lambda v: resample(v, KERNEL) ** 2, (x,))


def slow_modulated(x: torch.Tensor, weight: torch.Tensor, styles: torch.Tensor, demodulate: bool, up: bool) -> torch.Tensor:
    """As written in StyleGAN2, section 2.2: each image has weights of its own."""
    outputs = []
    for image, style in zip(x, styles, strict=True):
        w = weight * style[None, :, None, None]
        if demodulate:
            w = w / (w.square().sum((1, 2, 3), keepdim=True) + 1e-8).sqrt()
        if up:
            _, h, v = image.shape
            wide = torch.zeros(1, image.shape[0], 2 * h, 2 * v, dtype=x.dtype)
            wide[0, :, ::2, ::2] = image
            # True convolution (hence the flip), all of it, then all of the filter, then what is in the middle.
            full = F.conv2d(wide, w.flip(2, 3), padding=2)[..., : 2 * h + 1, : 2 * v + 1]
            outputs.append(slow_upfirdn(full, KERNEL * 4, 1, 1, 1, 1)[0])
        else:
            outputs.append(F.conv2d(image[None], w, padding=weight.shape[-1] // 2)[0])
    return torch.stack(outputs)


@pytest.mark.parametrize("demodulate", [True, False])
@pytest.mark.parametrize("up", [True, False])
def test_modulated_convolution_equals_one_weight_an_image(demodulate: bool, up: bool) -> None:
    x, weight, styles = random(3, 4, 5, 5).requires_grad_(), random(6, 4, 3, 3).requires_grad_(), random(3, 4).requires_grad_()
    fast = modulated_conv2d(x, weight, styles, demodulate=demodulate, fir=KERNEL if up else None)
    slow = slow_modulated(x, weight, styles, demodulate, up)
    assert torch.allclose(fast, slow, atol=1e-11)
    for a, b in zip(*(torch.autograd.grad((y**3).sum(), (x, weight, styles)) for y in (fast, slow)), strict=True):
        assert torch.allclose(a, b, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("up", [True, False])
def test_modulated_convolution_differentiates_twice(up: bool) -> None:
    inputs = random(2, 2, 3, 3).requires_grad_(), random(2, 2, 3, 3).requires_grad_(), (random(2, 2) + 2).requires_grad_()
    assert gradgradcheck(lambda x, w, s: modulated_conv2d(x, w, s, fir=KERNEL if up else None), inputs)


def test_an_equalised_layer_scales_at_run_time() -> None:
    layer = EqualLinear(8, 3, bias=1.0, lr_multiplier=0.01).double()
    x = random(2, 8)
    assert torch.allclose(layer(x), x @ (layer.weight * 0.01 / math.sqrt(8)).t() + 1, atol=1e-12)
    assert float(layer.bias.detach().mean()) == pytest.approx(100)


@pytest.mark.parametrize(("size", "down"), [(1, False), (3, False), (1, True), (3, True)])
def test_convolution_equals_its_parts(size: int, down: bool) -> None:
    layer = EqualConv2d(3, 4, size, down=down).double()
    x = random(2, 3, 8, 8)
    weight = layer.weight / math.sqrt(3 * size * size)
    if down:
        filtered = slow_upfirdn(x, KERNEL, 1, 1, 1 + size // 2, 1 + size // 2)
        plain = F.conv2d(filtered, weight, stride=2)
    else:
        plain = F.conv2d(x, weight, padding=size // 2)
    assert plain.shape[-1] == (4 if down else 8)
    assert torch.allclose(layer(x, gain=0.5), F.leaky_relu(plain, 0.2) * math.sqrt(2) * 0.5, atol=1e-7)


def test_activation_clamps_with_its_gain() -> None:
    x = torch.tensor([[-1000.0, 1000.0, 1.0]])
    assert torch.allclose(activate(x, torch.zeros(3), gain=0.5, clamp=256), torch.tensor([[-128.0, 128.0, math.sqrt(2) / 2]]))


def test_minibatch_deviation_is_the_mean_of_each_groups_deviation() -> None:
    x = random(4, 3, 2, 2)
    y = minibatch_deviation(x, 2)
    assert y.shape == (4, 4, 2, 2)
    for members in ((0, 2), (1, 3)):
        group = x[list(members)]
        expected = (group.var(0, correction=0) + 1e-8).sqrt().mean()
        for k in members:
            assert torch.allclose(y[k, 3], expected.expand(2, 2))
    assert torch.equal(y[:, :3], x)
