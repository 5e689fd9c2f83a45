"""From the bytes of an image to the normalised array that a network takes.

Three rules of fitting an image into the network's rectangle:

``crop``       ImageNet's: the shorter side becomes ``resize``, then the centre ``size`` x ``size`` is taken (Krizhevsky et al., 2012;
               torchvision's ``ImageClassification`` preset). What lies outside the square is not seen.
``stretch``    the whole image becomes ``size`` x ``size``; its aspect is lost.
``letterbox``  the whole image is scaled into ``size`` x ``size``, centred, the rest filled with the mean colour (which is 0 after
               normalisation).

Resizing is Pillow's with antialiasing, which is what torchvision's presets do with PIL images. JPEGs are first decoded at a half,
quarter or eighth of their size where that still leaves every side needed (``PIL.Image.draft``).
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal, Self

import numpy as np
from cosmop_common.images import decode_rgb
from numpy.typing import NDArray
from PIL import Image

from cosmop_vision.networks import Network

Fit = Literal["crop", "stretch", "letterbox"]
_FILTERS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


@dataclass(frozen=True)
class Preprocessing:
    """How images become arrays for one network at one size."""

    size: int
    #: Only for ``crop``: what the shorter side becomes.
    resize: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    interpolation: Literal["bilinear", "bicubic"] = "bilinear"
    fit: Fit = "crop"

    @classmethod
    def of(cls, network: Network, *, size: int | None = None, fit: Fit = "crop") -> Self:
        """A network's own rule, or the same at another size or fit. The crop keeps its share of the image."""
        side = size or network.size
        return cls(side, round(network.resize * side / network.size), network.mean, network.std, network.interpolation, fit)

    def array(self, image: Image.Image) -> NDArray[np.float32]:
        """An RGB image as 3 x size x size."""
        return self.normalise(np.asarray(self.fitted(image)))

    def array_of_bytes(self, data: bytes) -> NDArray[np.float32]:
        """An encoded image as 3 x size x size. Raises ``RefusedImageError``."""
        return self.array(decode_rgb(data, at_least=self.resize if self.fit == "crop" else self.size))

    def batch(self, images: Sequence[Image.Image]) -> NDArray[np.float32]:
        """RGB images as N x 3 x size x size."""
        return np.stack([self.array(image) for image in images])

    def fitted(self, image: Image.Image) -> Image.Image:
        """The image, resized and fitted: size x size pixels."""
        resample = _FILTERS[self.interpolation]
        width, height = image.size
        if self.fit == "stretch":
            return image.resize((self.size, self.size), resample)
        scale = self.resize / min(width, height) if self.fit == "crop" else self.size / max(width, height)
        # torchvision's Resize truncates the longer side.
        resized = image.resize((max(1, int(width * scale + 1e-6)), max(1, int(height * scale + 1e-6))), resample)
        left, top = round((resized.width - self.size) / 2), round((resized.height - self.size) / 2)
        if self.fit == "crop":
            return resized.crop((left, top, left + self.size, top + self.size))
        red, green, blue = (round(255 * m) for m in self.mean)
        canvas = Image.new("RGB", (self.size, self.size), (red, green, blue))
        canvas.paste(resized, (-left, -top))
        return canvas

    def normalise(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """H x W x 3 bytes as 3 x H x W floats, (x / 255 - mean) / std."""
        # Channel by channel: a third of the time of one expression over H x W x 3, and the same numbers.
        array = np.empty((3, *pixels.shape[:2]), np.float32)
        for channel, (mean, std) in enumerate(zip(self.mean, self.std, strict=True)):
            np.multiply(pixels[..., channel], np.float32(1 / (255 * std)), out=array[channel])
            array[channel] -= np.float32(mean / std)
        return array


class DecodePool:
    """Decodes images in threads (Pillow releases the interpreter lock for it), off the event loop."""

    def __init__(self, preprocessing: Preprocessing, threads: int = 0) -> None:
        """Starts the threads.

        Args:
            threads: 0: as many as the process has cores.
        """
        self.preprocessing = preprocessing
        self._threads = ThreadPoolExecutor(threads or len(os.sched_getaffinity(0)), thread_name_prefix="decode")

    async def array(self, data: bytes) -> NDArray[np.float32]:
        """One encoded image as 3 x size x size. Raises ``RefusedImageError``."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, self.preprocessing.array_of_bytes, data)

    def arrays(self, items: Sequence[bytes]) -> list[NDArray[np.float32]]:
        """Several encoded images, from blocking code. Raises ``RefusedImageError`` for the first that is none."""
        return list(self._threads.map(self.preprocessing.array_of_bytes, items))

    def close(self) -> None:
        """Ends the threads after the work in flight."""
        self._threads.shutdown(wait=True)
