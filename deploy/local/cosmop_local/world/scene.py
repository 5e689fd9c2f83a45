"""A whole picture: a place, what stands in it, people or none, the light, and the camera."""

from __future__ import annotations

from typing import Literal

import numpy as np
from PIL import Image, ImageEnhance, ImageFilter

from cosmop_local.world import borders, places, things
from cosmop_local.world.canvas import Canvas, noise
from cosmop_local.world.people import crowd, person

Kind = Literal["border", "other", "none"]

#: Sizes of the pictures, as photos from the web have them.
SIZES = ((320, 240), (400, 300), (480, 320), (480, 360), (512, 384), (640, 480), (360, 480), (300, 400))
#: Drawn larger and scaled down: smooth edges.
_SUPERSAMPLING = 1.25


def draw(seed: tuple[int, ...], kind: Kind) -> Image.Image:
    """The picture of a seed.

    Args:
        seed: whole numbers; equal ones give equal pictures.
        kind: ``border`` (people at a border), ``other`` (people elsewhere), ``none`` (no people; anywhere, borders too).
    """
    rng = np.random.default_rng(seed)
    width, height = SIZES[int(rng.integers(len(SIZES)))]
    size = (round(width * _SUPERSAMPLING), round(height * _SUPERSAMPLING))
    horizon = size[1] * float(rng.uniform(0.26, 0.56))
    # The eye at the height of a standing adult gives 1; from a roof less, from the ground more.
    canvas = Canvas(Image.new("RGB", size), rng, horizon, adult=float(rng.uniform(0.7, 1.25)))
    {"border": _border_scene, "other": _people_scene, "none": _empty_scene}[kind](canvas)
    return _photograph(canvas, (width, height))


def _border_scene(canvas: Canvas) -> None:
    depth = canvas.height - canvas.horizon
    count = canvas.whole(2, 14)
    far = 0.3
    if canvas.chance(0.82):
        fence = borders.border(canvas)
        far = (max(fence.left, fence.right) - canvas.horizon) / depth + 0.03
    else:
        borders.checkpoint(canvas)
        far = 0.45
    if canvas.chance(0.6):
        borders.barriers(canvas, canvas.whole(1, 4))
    if canvas.chance(0.5):  # a queue along the fence
        start, step = canvas.between(0.02, 0.3) * canvas.width, canvas.width / (count + 2) * canvas.between(0.6, 1)
        y = canvas.horizon + depth * min(0.9, far + canvas.between(0.03, 0.15))
        for i in range(count):
            bag = ("backpack", "suitcase", "plastic", "bundle", "backpack", "")[canvas.whole(0, 5)]
            person(canvas, start + i * step, y + canvas.between(-0.02, 0.03) * depth, bag=bag, child=canvas.chance(0.2))
    else:
        crowd(canvas, count, 0.03 * canvas.width, 0.97 * canvas.width, canvas.horizon + depth * 0.95, canvas.horizon + depth * min(0.85, far), bags=0.7)


def _people_scene(canvas: Canvas) -> None:
    depth = canvas.height - canvas.horizon
    name = tuple(places.PLACES)[canvas.whole(0, len(places.PLACES) - 1)]
    places.PLACES[name](canvas)
    far = 0.55 if name == "beach" else 0.35
    if canvas.chance(0.3):  # a portrait
        y = canvas.height * canvas.between(0.98, 1.5)
        for i in range(canvas.whole(1, 2)):
            person(
                canvas, canvas.width * (canvas.between(0.25, 0.75) if i == 0 else canvas.between(0.1, 0.9)), y, face="front" if canvas.chance(0.8) else "back"
            )
    else:
        count = canvas.whole(1, 6) if canvas.chance(0.7) else canvas.whole(7, 16)
        crowd(canvas, count, 0.05 * canvas.width, 0.95 * canvas.width, canvas.horizon + depth * 0.96, canvas.horizon + depth * far, bags=0.12)
    if name in {"field", "town"} and canvas.chance(0.25):
        places.scatter(canvas, things.animal, 1, near=0.9, far=0.6)


def _empty_scene(canvas: Canvas) -> None:
    if canvas.chance(0.22):
        if canvas.chance(0.8):
            borders.border(canvas)
        else:
            borders.checkpoint(canvas)
        if canvas.chance(0.4):
            borders.barriers(canvas, canvas.whole(1, 3))
    else:
        places.PLACES[tuple(places.PLACES)[canvas.whole(0, len(places.PLACES) - 1)]](canvas)
    near = {
        0: (things.animal, canvas.whole(1, 5)),
        1: (things.car, canvas.whole(1, 3)),
        2: (things.tent, canvas.whole(1, 4)),
        3: (things.tree, canvas.whole(1, 3)),
        4: (things.rock, canvas.whole(1, 4)),
    }
    for _ in range(canvas.whole(1, 2)):
        thing, count = near[canvas.whole(0, 4)]
        places.scatter(canvas, thing, count, near=0.9, far=0.45)


def _photograph(canvas: Canvas, size: tuple[int, int]) -> Image.Image:
    """Light and lens: scaling down, colour cast, contrast, vignette, blur, grain."""
    image = canvas.image.resize(size, Image.Resampling.BILINEAR)
    image = ImageEnhance.Contrast(image).enhance(canvas.between(0.8, 1.2))
    image = ImageEnhance.Color(image).enhance(canvas.between(0.6, 1.2))
    if canvas.chance(0.3):
        image = image.filter(ImageFilter.GaussianBlur(canvas.between(0.3, 0.9)))
    if canvas.chance(0.5):
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    small = (48, 36)
    y, x = np.mgrid[-1 : 1 : small[1] * 1j, -1 : 1 : small[0] * 1j]
    vignette = 1 - canvas.between(0, 0.18) * (x**2 + y**2)
    light = 1 + noise(canvas.rng, *small, ((3, 3, canvas.between(0.05, 0.35)), (7, 6, 0.1)))
    exposure = Image.fromarray((vignette * light * canvas.between(0.9, 1.2)).astype(np.float32)).resize(size, Image.Resampling.BILINEAR)
    grain = canvas.rng.standard_normal((size[1], size[0]), np.float32) * np.float32(canvas.between(1.5, 6))
    cast = canvas.rng.uniform(0.93, 1.07, 3).astype(np.float32)
    lit = np.asarray(image) * cast * np.asarray(exposure)[:, :, None]
    lit += grain[:, :, None]
    return Image.fromarray(np.clip(lit, 0, 255, out=lit).astype(np.uint8))
