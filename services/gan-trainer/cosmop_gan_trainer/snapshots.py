"""Snapshots: the averaged generator as safetensors that describe themselves, its samples by seed, and their grid."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Sequence

import numpy as np
import safetensors
import safetensors.torch
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from pydantic import ValidationError

from cosmop_gan_trainer.config import NetworkConfig
from cosmop_gan_trainer.errors import SnapshotMismatchError, TrainerOptionError
from cosmop_gan_trainer.generator import Generator

GRID = 64
"""Images in a grid, at most."""
_FILM_SIDE = 64
"""Pixels of an image in a film strip, at least."""
_CAPTION = 90
_CAPTION_FONT = 14


def save_generator(generator: Generator) -> bytes:
    """Weights as safetensors, with the network's shape in their header."""
    tensors = {k: v.detach().cpu().contiguous() for k, v in generator.state_dict().items()}
    return safetensors.torch.save(tensors, metadata={"network": generator.config.model_dump_json()})


def load_generator(data: bytes, device: torch.device) -> Generator:
    """The generator that was saved.

    Raises:
        SnapshotMismatchError: the bytes are no snapshot, or its weights do not fit its own description.
    """
    try:
        length = int.from_bytes(data[:8], "little")
        header = json.loads(data[8 : 8 + length])
        config = NetworkConfig.model_validate_json(header["__metadata__"]["network"])
        generator = Generator(config)
        generator.load_state_dict(safetensors.torch.load(data))
    except (ValueError, KeyError, TypeError, ValidationError, RuntimeError, safetensors.SafetensorError) as error:
        raise SnapshotMismatchError(f"these {len(data)} bytes are no generator snapshot ({error}): name one that gan-trainer wrote") from error
    return generator.to(device).eval().requires_grad_(requires_grad=False)


@torch.no_grad()
def draw(generator: Generator, seeds: Sequence[int], *, truncation: float = 1.0, label: str = "") -> NDArray[np.uint8]:
    """One image a seed, [n, r, r, 3]: it depends on its seed and the weights, not on its neighbours.

    Args:
        label: a class of a conditional generator; empty: its classes in turn.

    Raises:
        TrainerOptionError: a label that the generator does not know.
    """
    config, device = generator.config, next(generator.parameters()).device
    z = torch.stack([torch.randn(config.z_dim, generator=torch.Generator().manual_seed(s)) for s in seeds]).to(device)
    labels = None
    if config.classes:
        if label and label not in config.classes:
            raise TrainerOptionError(f"label {label!r}: this snapshot knows {', '.join(config.classes)}")
        index = [config.classes.index(label) if label else s % len(config.classes) for s in seeds]
        labels = torch.nn.functional.one_hot(torch.tensor(index), len(config.classes)).float().to(device)
    images = generator(z, labels, truncation=truncation, fixed_noise=True)
    pixels = (images * 127.5 + 127.5).round().clamp(0, 255).to(torch.uint8)
    return np.asarray(pixels.permute(0, 2, 3, 1).cpu().numpy(), dtype=np.uint8)


def png(pixels: NDArray[np.uint8]) -> bytes:
    """[h, w, 3] as PNG, fast rather than small."""
    sink = io.BytesIO()
    Image.fromarray(pixels).save(sink, "PNG", compress_level=1)
    return sink.getvalue()


def film(rows: Sequence[tuple[str, Sequence[bytes]]]) -> bytes:
    """A film strip as PNG: one row a snapshot with its caption, the same seeds below each other. Images are PNGs of one size."""
    decoded = [(caption, [np.asarray(Image.open(io.BytesIO(data)).convert("RGB")) for data in images]) for caption, images in rows]
    side = decoded[0][1][0].shape[0]
    shown = max(side, _FILM_SIDE)
    columns = max(len(images) for _, images in decoded)
    measure = ImageDraw.Draw(Image.new("RGB", (1, 1)))
    margin = max(_CAPTION, *(math.ceil(measure.textlength(caption, font_size=_CAPTION_FONT)) + 16 for caption, _ in rows))
    sheet = Image.new("RGB", (margin + columns * shown, len(decoded) * shown), "white")
    pen = ImageDraw.Draw(sheet)
    for row, (caption, images) in enumerate(decoded):
        pen.text((margin - 8, row * shown + shown // 2), caption, "black", anchor="rm", font_size=_CAPTION_FONT)
        for column, image in enumerate(images):
            # Small images are enlarged without smoothing: what the network drew, nothing more.
            sheet.paste(Image.fromarray(image).resize((shown, shown), Image.Resampling.NEAREST), (margin + column * shown, row * shown))
    sink = io.BytesIO()
    sheet.save(sink, "PNG")
    return sink.getvalue()


def grid(images: NDArray[np.uint8]) -> bytes:
    """The first images as one PNG, in rows as long as there are rows."""
    shown = images[:GRID]
    n, h, w, _ = shown.shape
    columns = math.ceil(math.sqrt(n))
    rows = math.ceil(n / columns)
    sheet = np.full((rows * h, columns * w, 3), 255, dtype=np.uint8)
    for k, image in enumerate(shown):
        top, left = k // columns * h, k % columns * w
        sheet[top : top + h, left : left + w] = image
    return png(sheet)
