"""ADA: each transform against its matrix, the warp against a slow one, the controller on made-up signs, and no leak."""

from __future__ import annotations

import math

import pytest
import torch
from cosmop_gan_trainer import augment, transforms
from cosmop_gan_trainer.augment import Augment, Controller, recolour, warp
from cosmop_gan_trainer.config import TrainConfig
from torch.autograd import gradcheck, gradgradcheck
from torch.nn import functional as F  # noqa: N812


def smooth(size: int = 16, n: int = 1) -> torch.Tensor:
    """Images without fine detail, so that resampling hardly changes them."""
    torch.manual_seed(0)
    return F.interpolate(torch.randn(n, 3, 4, 4), size=(size, size), mode="bicubic").double()


def test_the_wavelet_is_orthonormal() -> None:
    taps = torch.tensor(augment.SYM6, dtype=torch.float64)
    assert float(taps.sum()) == pytest.approx(math.sqrt(2), abs=1e-9)
    for shift in range(6):
        product = float((taps[2 * shift :] * taps[: 12 - 2 * shift]).sum())
        assert product == pytest.approx(1.0 if shift == 0 else 0.0, abs=1e-9)


def test_the_identity_changes_an_image_hardly() -> None:
    images = smooth()
    assert float((warp(images, torch.eye(3)[None]) - images).abs().max()) < 0.02


@pytest.mark.parametrize(
    ("inverse", "expected"),
    [
        (transforms.scale2d(-torch.ones(1), torch.ones(1)), lambda x: x.flip(3)),
        (transforms.rotate2d(torch.tensor([math.pi / 2])), lambda x: x.rot90(1, (2, 3))),
        (transforms.rotate2d(torch.tensor([math.pi])), lambda x: x.flip(2, 3)),
        (transforms.translate2d(torch.tensor([-3.0]), torch.tensor([0.0])), lambda x: torch.cat([x[..., :3].flip(3), x[..., :-3]], 3)),
        (transforms.translate2d(torch.tensor([0.0]), torch.tensor([2.0])), lambda x: torch.cat([x[:, :, 2:], x[:, :, -2:].flip(2)], 2)),
    ],
    ids=["mirror", "quarter turn", "half turn", "shift right", "shift up"],
)
def test_a_warp_is_what_its_matrix_says(inverse: torch.Tensor, expected) -> None:
    images = smooth()
    difference = (warp(images, inverse) - expected(images)).abs()
    assert float(difference[..., 3:-3, 3:-3].max()) < 0.05
    # What is reflected into the image is off by the quarter of a pixel that the wavelet lies beside its middle.
    assert float(difference.max()) < 0.3


def test_a_warp_by_any_matrix_equals_plain_bilinear_lookup_on_smooth_images() -> None:
    images = smooth(32)
    g = (
        transforms.rotate2d(torch.tensor([0.3]))
        @ transforms.scale2d(torch.tensor([0.8]), torch.tensor([0.9]))
        @ transforms.translate2d(torch.tensor([1.3]), torch.tensor([-2.1]))
    )
    half = 16
    theta = torch.diag(torch.tensor([1 / half, 1 / half, 1.0])) @ g[0] @ torch.diag(torch.tensor([half, half, 1.0]))
    grid = F.affine_grid(theta[None, :2].double(), [1, 3, 32, 32], align_corners=False)
    plain = F.grid_sample(images, grid, padding_mode="reflection", align_corners=False)
    assert float((warp(images, g) - plain)[..., 2:-2, 2:-2].abs().max()) < 0.06


def test_the_warp_differentiates_twice() -> None:
    g = transforms.rotate2d(torch.tensor([0.5]))
    images = torch.randn(1, 3, 4, 4, dtype=torch.float64, requires_grad=True)
    assert gradcheck(lambda x: warp(x, g), (images,))
    assert gradgradcheck(lambda x: warp(x, g) ** 2, (images,))


def test_every_transform_happens_with_its_probability() -> None:
    torch.manual_seed(0)
    n, p = 4000, 0.3
    geometry, colour = transforms.geometry(n, p, 32), transforms.colour(n, p)
    # Untouched geometry: five transforms and two rotations that share p, a mirror that half the time does nothing, and turns that a quarter of the time do.
    still = (1 - p / 2) * (1 - p * 3 / 4) * (1 - p) ** 5
    assert float((geometry - torch.eye(3)).abs().flatten(1).amax(1).lt(1e-6).float().mean()) == pytest.approx(still, abs=0.03)
    plain = (1 - p) ** 4 * (1 - p / 2)
    assert float((colour - torch.eye(4)).abs().flatten(1).amax(1).lt(1e-6).float().mean()) == pytest.approx(plain, abs=0.03)
    assert torch.allclose(transforms.geometry(5, 0.0, 32), torch.eye(3).expand(5, 3, 3))


def test_scales_shifts_and_colours_have_their_extents() -> None:
    torch.manual_seed(0)
    n = 20000
    geometry = transforms.geometry(n, 1.0, 32)
    # ln |det| = -2 ln(isotropic scale): the others keep areas.
    areas = torch.linalg.det(geometry).abs().log2() / 2
    assert float(areas.std()) == pytest.approx(transforms.SCALE_DEVIATION, rel=0.05)
    colour = transforms.colour(n, 1.0)
    grey = torch.ones(3) / math.sqrt(3)
    along = torch.einsum("i,nij,j->n", grey, colour[:, :3, :3], grey).abs().log2()
    assert float(along.std()) == pytest.approx(transforms.CONTRAST_DEVIATION, rel=0.05)
    saturation = (torch.linalg.det(colour[:, :3, :3]).abs().log2() - 3 * along) / 2
    assert float(saturation.std()) == pytest.approx(transforms.SATURATION_DEVIATION, rel=0.05)


def test_hue_turns_red_into_green() -> None:
    red = torch.zeros(1, 3, 1, 1)
    red[:, 0] = 1
    turned = recolour(red, transforms.rotate_hue(torch.tensor([2 * math.pi / 3])))
    assert torch.allclose(turned.flatten(), torch.tensor([0.0, 1.0, 0.0]), atol=1e-6)


def test_only_touched_images_change() -> None:
    torch.manual_seed(0)
    module, images = Augment(), smooth(16, 64).float()
    assert module(images) is images
    module.p = 0.05
    changed = (module(images) != images).flatten(1).any(1)
    assert 5 < int(changed.sum()) < 50


def test_p_rises_on_a_sure_discriminator_to_its_cap_and_falls_again() -> None:
    config = TrainConfig(batch=32, ada_kimg=10, ada_interval=4)
    controller = Controller(config)
    for step in range(1, 401):
        controller.see(torch.ones(32))
        controller.step(step)
        if step == 4:
            assert controller.p == pytest.approx(32 * 4 / 10_000)
    assert controller.p == pytest.approx(config.ada_cap)
    assert controller.sign == 1
    for step in range(401, 409):
        controller.see(-torch.ones(32))
        controller.step(step)
    assert controller.p == pytest.approx(config.ada_cap - 2 * 32 * 4 / 10_000)
    off = Controller(config.model_copy(update={"ada_target": 0.0}))
    off.see(torch.ones(32))
    off.step(4)
    assert off.p == 0


def test_p_settles_where_an_overfitting_discriminator_is_held() -> None:
    """Made-up overfit: sure of reals in proportion to how little they are augmented; the balance is at p = 0.4 / 1.5."""
    torch.manual_seed(0)
    controller = Controller(TrainConfig(batch=64, ada_kimg=20))
    for step in range(1, 4001):
        sure = (1 + (1 - 1.5 * controller.p)) / 2
        controller.see(torch.where(torch.rand(64) < sure, 1.0, -1.0))
        controller.step(step)
    assert controller.p == pytest.approx(0.4 / 1.5, abs=0.06)
