"""Pictures to measure with: real photos where a folder of them lies beside the project, else smooth random ones."""

from __future__ import annotations

import argparse
import io
from pathlib import Path

import numpy as np
from PIL import Image

#: Where real photos are looked for unless told otherwise.
PHOTOS = Path(__file__).resolve().parents[2] / "shared" / "photos"


def add_options(parser: argparse.ArgumentParser, images: int) -> None:
    """``--photos`` and ``--images``."""
    parser.add_argument("--photos", type=Path, default=PHOTOS, help="folder of photos (default: %(default)s); random pictures where it is missing")
    parser.add_argument("--images", type=int, default=images, help="pictures to measure with (default: %(default)s)")


def load(folder: Path, count: int) -> tuple[list[Image.Image], str]:
    """``count`` pictures as RGB, spread evenly over the folder, and what they are in words."""
    files = sorted(p for p in folder.rglob("*") if p.suffix.lower() in {".jpg", ".jpeg", ".png"}) if folder.is_dir() else []
    if len(files) < count:
        return [_random(seed) for seed in range(count)], "smooth random pictures (no real photos at hand)"
    step = len(files) / count
    return [Image.open(files[int(i * step)]).convert("RGB") for i in range(count)], f"{count} photos"


def jpeg(image: Image.Image, size: tuple[int, int] | None = None, quality: int = 85) -> bytes:
    """An image as JPEG, scaled to ``size`` first where one is given."""
    buffer = io.BytesIO()
    (image.resize(size, Image.Resampling.BICUBIC) if size else image).save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def _random(seed: int) -> Image.Image:
    rng = np.random.default_rng(seed)
    rough = Image.fromarray(rng.integers(0, 256, (9, 12, 3), dtype=np.uint8)).resize((640, 480), Image.Resampling.BICUBIC)
    grain = rng.normal(0, 6, (480, 640, 3))
    return Image.fromarray(np.clip(np.asarray(rough) + grain, 0, 255).astype(np.uint8))
