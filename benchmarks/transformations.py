"""What people do to pictures before they post them again, each as a function of an image; seeded where it is random."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw, ImageEnhance, ImageFilter, ImageOps

Transformation = Callable[[Image.Image], Image.Image]


def reencode(kind: str, quality: int) -> Transformation:
    """Saved with losses and read again."""

    def apply(image: Image.Image) -> Image.Image:
        buffer = io.BytesIO()
        image.save(buffer, kind, quality=quality)
        return Image.open(buffer).convert("RGB")

    return apply


def resize(across: float, down: float) -> Transformation:
    """Scaled by two factors."""
    return lambda image: image.resize((max(8, round(image.width * across)), max(8, round(image.height * down))), Image.Resampling.BICUBIC)


def crop(share: float) -> Transformation:
    """A share of the width and height cut off at every side."""

    def apply(image: Image.Image) -> Image.Image:
        x, y = round(image.width * share), round(image.height * share)
        return image.crop((x, y, image.width - x, image.height - y))

    return apply


def border(share: float) -> Transformation:
    """A black frame, a share of the shorter side wide."""
    return lambda image: ImageOps.expand(image, round(min(image.size) * share), fill="black")


def watermark(image: Image.Image) -> Image.Image:
    """White words on a dark strip at the bottom."""
    marked = image.copy()
    draw = ImageDraw.Draw(marked)
    height = max(8, image.height // 14)
    draw.rectangle((0, image.height - height, image.width // 2, image.height), fill=(20, 20, 20))
    draw.text((4, image.height - height), "example.org / photographer", fill="white", font_size=max(6, height - 4))
    return marked


def noise(spread: float) -> Transformation:
    """Gaussian noise of so many grey levels."""

    def apply(image: Image.Image) -> Image.Image:
        rng = np.random.default_rng(image.width * 100_003 + image.height)
        return Image.fromarray(np.clip(np.asarray(image) + rng.normal(0, spread, (image.height, image.width, 3)), 0, 255).astype(np.uint8))

    return apply


def rotate(degrees: float) -> Transformation:
    """Turned a little, corners black."""
    return lambda image: image.rotate(degrees, Image.Resampling.BICUBIC)


#: By name. Those of ``TURNS`` only count as copies where flips are asked for.
TRANSFORMATIONS: dict[str, Transformation] = {
    "jpeg 90": reencode("JPEG", 90),
    "jpeg 50": reencode("JPEG", 50),
    "jpeg 20": reencode("JPEG", 20),
    "jpeg 10": reencode("JPEG", 10),
    "webp 50": reencode("WEBP", 50),
    "resize 50 %": resize(0.5, 0.5),
    "resize 25 %": resize(0.25, 0.25),
    "resize 150 %": resize(1.5, 1.5),
    "squeeze 10 %": resize(0.9, 1.0),
    "crop 2 %": crop(0.02),
    "crop 5 %": crop(0.05),
    "crop 10 %": crop(0.1),
    "border 3 %": border(0.03),
    "watermark": watermark,
    "brighter 30 %": lambda image: ImageEnhance.Brightness(image).enhance(1.3),
    "darker 30 %": lambda image: ImageEnhance.Brightness(image).enhance(0.7),
    "contrast 40 %": lambda image: ImageEnhance.Contrast(image).enhance(1.4),
    "grey": lambda image: image.convert("L").convert("RGB"),
    "blur 2 px": lambda image: image.filter(ImageFilter.GaussianBlur(2)),
    "noise 15": noise(15),
    "rotate 1°": rotate(1),
    "rotate 3°": rotate(3),
}
TURNS: dict[str, Transformation] = {
    "flip": ImageOps.mirror,
    "rotate 90°": lambda image: image.transpose(Image.Transpose.ROTATE_90),
    "rotate 180°": lambda image: image.transpose(Image.Transpose.ROTATE_180),
}
