"""Training images: decoded once, cut to a square, kept as bytes in memory, drawn in an order that a position determines."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
import torch
from cosmop_common.errors import RefusedImageError
from cosmop_common.images import decode_rgb
from numpy.typing import NDArray
from PIL import Image, ImageOps
from torch import Tensor

from cosmop_gan_trainer.config import RunConfig
from cosmop_gan_trainer.errors import TooFewImagesError


def square(data: bytes, resolution: int, crop: str = "centre") -> NDArray[np.uint8]:
    """An encoded image of any mode, size and aspect as [resolution, resolution, 3], resized with Lanczos' filter.

    Args:
        crop: "centre" takes the largest square at the middle; "fit" takes the whole image, with black bars.

    Raises:
        RefusedImageError: the bytes are no image that can be decoded.
    """
    image = decode_rgb(data, at_least=resolution)
    if crop == "fit":
        return np.asarray(ImageOps.pad(image, (resolution, resolution), Image.Resampling.LANCZOS), dtype=np.uint8)
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    cut = image.resize((resolution, resolution), Image.Resampling.LANCZOS, box=(left, top, left + side, top + side))
    return np.asarray(cut, dtype=np.uint8)


@dataclass
class Images:
    """Decoded images and their classes, growing as they are read."""

    resolution: int
    pixels: list[NDArray[np.uint8]] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)
    #: What could not be used: name -> why.
    refused: dict[str, str] = field(default_factory=dict)
    #: How they are cut: see ``square``.
    crop: str = "centre"

    def add(self, name: str, data: bytes, label: int = 0) -> None:
        """Decodes an image; one that cannot be is noted by name and left out."""
        try:
            self.pixels.append(square(data, self.resolution, self.crop))
        except RefusedImageError as error:
            self.refused[name] = str(error)
        else:
            self.labels.append(label)

    def add_all(self, batch: Iterable[tuple[str, bytes]], label: int = 0) -> None:
        """Decodes several."""
        for name, data in batch:
            self.add(name, data, label)


class TrainingSet:
    """Images on the device, and the order they are shown in.

    The order is a function of (seed, position) alone: each epoch is the permutation of its own number, so that a resumed
    run needs no more than its position to go on with the very next image.
    """

    def __init__(self, images: Images, *, batch: int, classes: int, mirror: bool, seed: int, device: torch.device) -> None:
        """Raises ``TooFewImagesError`` for fewer than ``batch``."""
        if len(images.pixels) < batch:
            refused = "".join(f"; refused: {name}: {why}" for name, why in list(images.refused.items())[:3])
            raise TooFewImagesError(
                f"{len(images.pixels)} usable images, fewer than one batch of {batch}: label more of them, or set the option batch lower{refused}"
            )
        self.count = len(images.pixels)
        self._pixels = torch.from_numpy(np.stack(images.pixels)).permute(0, 3, 1, 2).contiguous().to(device)
        self._labels = torch.nn.functional.one_hot(torch.tensor(images.labels), classes).float().to(device) if classes else None
        self._mirror, self._seed = mirror, seed
        self._device = device
        self._epoch = -1
        self._order = torch.empty(0, dtype=torch.long)

    @classmethod
    def build(cls, images: Images, config: RunConfig, device: torch.device) -> TrainingSet:
        """The set that a run's settings ask for."""
        train = config.train
        return cls(images, batch=train.batch, classes=len(config.network.classes), mirror=train.mirror, seed=train.seed, device=device)

    def as_tensors(self) -> dict[str, Tensor]:
        """Pixels [n, 3, r, r] as bytes and class numbers [n], on the CPU: to be sent to another process."""
        labels = torch.zeros(self.count, dtype=torch.long) if self._labels is None else self._labels.argmax(1)
        return {"pixels": self._pixels.cpu(), "labels": labels.cpu()}

    def draw(self, position: int, count: int) -> tuple[Tensor, Tensor | None]:
        """Images number ``position`` to ``position + count`` of the endless order: [count, 3, r, r] in -1 to 1, labels [count, classes]."""
        length = self.count * (2 if self._mirror else 1)
        picked = torch.tensor([self._at(k, length) for k in range(position, position + count)])
        index, mirrored = (picked % self.count).to(self._device), (picked >= self.count).to(self._device)
        images = self._pixels[index].float() / 127.5 - 1
        images = torch.where(mirrored[:, None, None, None], images.flip(3), images)
        return images, None if self._labels is None else self._labels[index]

    def random_labels(self, count: int) -> Tensor | None:
        """Labels of randomly drawn images, for the generator."""
        if self._labels is None:
            return None
        return self._labels[torch.randint(self.count, [count]).to(self._device)]

    def _at(self, position: int, length: int) -> int:
        epoch, place = divmod(position, length)
        if epoch != self._epoch:
            generator = torch.Generator().manual_seed((self._seed * 1_000_003 + epoch) % 2**63)
            self._order, self._epoch = torch.randperm(length, generator=generator), epoch
        return int(self._order[place])
