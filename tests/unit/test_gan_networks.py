"""Networks: parameter counts against the published ones, shapes, statistics at initialisation, precision, snapshots."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from cosmop_gan_trainer.config import NetworkConfig
from cosmop_gan_trainer.discriminator import Discriminator
from cosmop_gan_trainer.errors import SnapshotMismatchError, TrainerOptionError
from cosmop_gan_trainer.generator import Generator
from cosmop_gan_trainer.ops import HalfPrecision
from cosmop_gan_trainer.presets import PRESETS, configure
from cosmop_gan_trainer.snapshots import draw, grid, load_generator, save_generator

SMALL = NetworkConfig(resolution=16, z_dim=16, w_dim=16, mapping_layers=2, channel_base=128, channel_max=16)


def count(network: torch.nn.Module) -> int:
    return sum(math.prod(p.shape) for p in network.parameters())


def test_the_published_networks_have_their_published_sizes() -> None:
    """StyleGAN2 config F at 1024 px (its training log): 30,370,060 and 29,012,513 weights."""
    config = configure("stylegan2", 1024).network
    with torch.device("meta"):
        assert count(Generator(config)) == 30_370_060
        assert count(Discriminator(config)) == 29_012_513


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_makes_networks_of_its_resolution(preset: str) -> None:
    config = configure(preset, 32).network
    with torch.device("meta"):
        generator, discriminator = Generator(config), Discriminator(config)
        images = generator(torch.randn(8, config.z_dim))
        assert images.shape == (8, 3, 32, 32)
        assert discriminator(images[: max(1, min(8, config.minibatch_group))]).ndim == 1
    assert generator.synthesis.layers == 2 * math.log2(32) - 2


def test_auto_follows_the_heuristic() -> None:
    network, train = configure("auto", 256).network, configure("auto", 256).train
    assert (train.batch, network.minibatch_group, network.channel_base, network.mapping_layers) == (16, 4, 16384, 2)
    assert train.r1_gamma == pytest.approx(0.0002 * 256**2 / 16)
    assert train.ema_kimg == 5
    assert configure("auto", 1024).train.learning_rate == 0.002
    assert configure("auto", 128, processes=8).train.batch == 64


def test_cifar_has_no_path_length_and_no_mixing() -> None:
    train = configure("cifar", 32).train
    assert (train.path_length_weight, train.style_mixing, train.ema_kimg) == (0, 0, 500)


@pytest.mark.parametrize(
    ("preset", "resolution", "options", "word"),
    [
        ("huge", 32, {}, "huge"),
        ("auto", 48, {}, "48"),
        ("auto", 32, {"bacth": "3"}, "bacth"),
        ("auto", 32, {"batch": "many"}, "batch"),
        ("auto", 32, {"ada_cap": "1.5"}, "ada_cap"),
        ("auto", 32, {"seed": "3"}, "seed"),
        ("auto", 32, {"batch": "10"}, "multiple"),
    ],
)
def test_what_cannot_be_is_refused_by_name(preset: str, resolution: int, options: dict[str, str], word: str) -> None:
    with pytest.raises(TrainerOptionError, match=word):
        configure(preset, resolution, options=options)


def test_activations_start_at_the_order_of_unit_variance() -> None:
    torch.manual_seed(0)
    generator = Generator(NetworkConfig(resolution=32, channel_base=2048, channel_max=128, mapping_layers=2))
    seen: dict[str, float] = {}
    for name, module in generator.synthesis.named_modules():
        if name.endswith((".conv", ".up")):
            module.register_forward_hook(lambda _m, _i, y, name=name: seen.__setitem__(name, float(y.square().mean())))
    with torch.no_grad():
        images = generator(torch.randn(16, 512))
    assert len(seen) == 7
    # Each low-pass filter after an upsampling takes (1/16 + 9/16)^2 = 0.39 of what varies from pixel to pixel; nothing grows.
    assert all(0.39**3 < v < 2 for v in seen.values()), seen
    assert 0.3 < float(images.std()) < 4


def test_truncation_draws_w_to_its_mean() -> None:
    torch.manual_seed(0)
    generator = Generator(SMALL)
    generator.mapping.w_average.copy_(torch.randn(16))
    z = torch.randn(2, 16)
    with torch.no_grad():
        mean = generator.synthesis(generator.mapping.w_average.expand(2, generator.synthesis.layers, -1), fixed_noise=True)
        assert torch.allclose(generator(z, truncation=0.0, fixed_noise=True), mean, atol=1e-5)
        assert torch.equal(generator(z, truncation=1.0, fixed_noise=True), generator(z, fixed_noise=True))


def test_the_running_mean_of_w_moves_slowly() -> None:
    torch.manual_seed(0)
    mapping = Generator(SMALL).mapping
    w = mapping(torch.randn(8, 16), None).detach()
    mapping.move_average(w.mean(0))
    assert torch.allclose(mapping.w_average, w.mean(0) * 0.005, atol=1e-7)


def test_a_conditional_pair_heeds_its_labels() -> None:
    torch.manual_seed(0)
    config = SMALL.model_copy(update={"classes": ("a", "b")})
    generator, discriminator = Generator(config), Discriminator(config)
    z, labels = torch.randn(1, 16).expand(2, -1), torch.eye(2)
    with torch.no_grad():
        images = generator(z, labels, fixed_noise=True)
        assert not torch.allclose(images[0], images[1], atol=1e-3)
        logits = discriminator(images[:1].expand(2, -1, -1, -1), labels)
    assert logits.shape == (2,)
    assert float((logits[0] - logits[1]).abs()) > 1e-6


@pytest.mark.parametrize("memory", [torch.preserve_format, torch.channels_last])
def test_bf16_is_close_to_fp32_and_leaves_rgb_and_logits_in_fp32(memory: torch.memory_format) -> None:
    torch.manual_seed(0)
    generator, discriminator = Generator(SMALL), Discriminator(SMALL)
    z = torch.randn(4, 16)
    with torch.no_grad():
        full = generator(z, fixed_noise=True)
        full_logits = discriminator(full)
        generator.synthesis.half_precision = discriminator.half_precision = HalfPrecision(torch.bfloat16, memory)
        low, low_logits = generator(z, fixed_noise=True), discriminator(full)
    assert low.dtype == low_logits.dtype == torch.float32
    assert 0 < float((full - low).abs().max()) < 0.2
    assert float((full_logits - low_logits).abs().max()) < 0.2


def test_a_snapshot_describes_itself_and_draws_the_same() -> None:
    torch.manual_seed(0)
    generator = Generator(SMALL)
    loaded = load_generator(save_generator(generator), torch.device("cpu"))
    images = draw(generator, range(5))
    assert loaded.config == SMALL
    assert np.array_equal(draw(loaded, range(5)), images)
    # An image depends on its seed, whatever is drawn beside it; the last bit may differ with the batch's size.
    assert np.abs(draw(loaded, [3])[0].astype(int) - images[3]).max() <= 1
    assert grid(images).startswith(b"\x89PNG")


@pytest.mark.parametrize("data", [b"", b"no snapshot at all", save_generator(Generator(SMALL))[:-10]])
def test_bytes_that_are_no_snapshot_are_refused(data: bytes) -> None:
    with pytest.raises(SnapshotMismatchError, match="no generator snapshot"):
        load_generator(data, torch.device("cpu"))
