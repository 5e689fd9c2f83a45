"""Drawn pictures of every kind that a hash must have a way with: the same bytes of pixels on every machine, whatever drew them."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image


def scene(seed: int, size: tuple[int, int] = (150, 113)) -> Image.Image:
    """A smooth picture of whole-number arithmetic alone: no filter of a library takes part."""
    width, height = size
    rng = np.random.default_rng(seed)
    x, y = np.arange(width)[None, :, None], np.arange(height)[:, None, None]
    pixels = np.zeros((height, width, 3), np.int64)
    for _ in range(9):
        cx, cy, radius = rng.integers(0, width), rng.integers(0, height), rng.integers(10, max(11, width // 2))
        inside = ((x - cx) ** 2 + (y - cy) ** 2) // radius
        pixels += np.clip(radius - inside, 0, 255) * rng.integers(0, 5, 3)
    return Image.fromarray((pixels % 511 // 2).astype(np.uint8))


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    """Its bytes."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def pictures() -> dict[str, bytes]:
    """By name. Only lossless files, but for the JPEGs, whose decoding is the same wherever Pillow brings its own libjpeg-turbo."""
    exif = Image.Exif()
    exif[0x0112] = 6
    alpha = scene(4).convert("RGBA")
    alpha.putalpha(scene(5).convert("L"))
    grey = scene(6).convert("L")
    cut_out = scene(8).quantize(32)
    found = {f"rgb {size[0]}x{size[1]}": encoded(scene(seed, size)) for seed, size in enumerate([(150, 113), (32, 32), (31, 400), (640, 480)])}
    return found | {
        "grey": encoded(grey),
        "one bit": encoded(grey.point(lambda v: 255 * (v > 120)).convert("1")),
        "alpha": encoded(alpha),
        "grey and alpha": encoded(alpha.convert("LA")),
        "palette": encoded(scene(7).quantize(64)),
        "palette, transparent": encoded(cut_out, transparency=3),
        "16 bits": encoded(Image.fromarray(np.asarray(grey).astype(np.uint16) * 257)),
        "cmyk": encoded(scene(9).convert("CMYK"), "TIFF"),
        "turned by exif": encoded(scene(10), exif=exif),
        "jpeg": encoded(scene(11, (640, 480)), "JPEG", quality=80),
        "jpeg, progressive": encoded(scene(11, (640, 480)), "JPEG", quality=80, progressive=True),
        "jpeg, cmyk": encoded(scene(12).convert("CMYK"), "JPEG", quality=90),
        "jpeg, turned by exif": encoded(scene(13, (640, 480)), "JPEG", quality=90, exif=exif),
        "flat": encoded(Image.new("RGB", (64, 64), (90, 20, 20))),
    }
