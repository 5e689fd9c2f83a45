"""Feature networks: encoded images in, feature vectors out. Loading one takes seconds, so a process keeps those it has loaded."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Protocol as Interface

import numpy as np
from cosmop_common.errors import RefusedImageError
from cosmop_common.images import decode_rgb
from numpy.typing import NDArray
from PIL import Image

from cosmop_fid_evaluator.protocol import Protocol
from cosmop_fid_evaluator.resize import Resize, resize

#: Images in one inference: more are no faster on the CPU.
_BATCH = 16
_TURNS = {1: Image.Transpose.ROTATE_90, 2: Image.Transpose.ROTATE_180, 3: Image.Transpose.ROTATE_270}


class FeatureNetwork(Interface):
    """A loaded network with its preprocessing."""

    @property
    def weights_sha256(self) -> str:
        """Of the file of weights that it runs on."""

    def array(self, image: Image.Image) -> NDArray[np.float32]:
        """An RGB image as the network takes it, 3 x H x W."""

    def features(self, arrays: NDArray[np.float32]) -> NDArray[np.float32]:
        """N x 3 x H x W to N x d."""


class Inception:
    """FID-Inception with one of the three resizes."""

    def __init__(self, how: Resize, precision: str) -> None:
        from cosmop_vision.inception import SIZE, InceptionFeatures

        self._size, self._how = SIZE, how
        self._network = InceptionFeatures.create("bf16" if precision == "bf16" else "fp32")
        self.weights_sha256 = self._network.weights_sha256

    def array(self, image: Image.Image) -> NDArray[np.float32]:
        """The image resized, values in [0, 255]; the network normalises them itself."""
        return resize(np.asarray(image), self._size, self._how)

    def features(self, arrays: NDArray[np.float32]) -> NDArray[np.float32]:
        """N x 2048."""
        return self._network.run(arrays)


class PooledBackbone:
    """Pooled features of a classifier's backbone: a Frechet distance that is named after it, and never FID."""

    def __init__(self, name: str) -> None:
        from cosmop_vision.preprocess import Preprocessing
        from cosmop_vision.runtime import Extractor

        self._extractor = Extractor.create(name)
        # The whole image, like FID: a crop would not see what a generator does at its borders.
        self._preprocessing = Preprocessing.of(self._extractor.network, fit="stretch")
        self.weights_sha256 = self._extractor.network.weights.sha256

    def array(self, image: Image.Image) -> NDArray[np.float32]:
        """The image stretched and normalised."""
        return self._preprocessing.array(image)

    def features(self, arrays: NDArray[np.float32]) -> NDArray[np.float32]:
        """N x d."""
        return self._extractor.features(arrays)


@dataclass(frozen=True)
class Turned:
    """Another network, shown each image turned by ``quarters`` of a full turn."""

    network: FeatureNetwork
    quarters: int

    @property
    def weights_sha256(self) -> str:
        """The network's."""
        return self.network.weights_sha256

    def array(self, image: Image.Image) -> NDArray[np.float32]:
        """The turned image as the network takes it."""
        return self.network.array(image.transpose(_TURNS[self.quarters]))

    def features(self, arrays: NDArray[np.float32]) -> NDArray[np.float32]:
        """The network's."""
        return self.network.features(arrays)


class MeanColour:
    """No network at all: the mean red, green and blue of an image."""

    weights_sha256 = ""

    def array(self, image: Image.Image) -> NDArray[np.float32]:
        """3 x 1 x 1."""
        return np.asarray(np.asarray(image, np.float32).mean((0, 1)), np.float32)[:, None, None]

    def features(self, arrays: NDArray[np.float32]) -> NDArray[np.float32]:
        """N x 3."""
        return arrays[:, :, 0, 0]


@dataclass
class Networks:
    """The networks that this process has loaded, by protocol: snapshot after snapshot meets them warm. Thread-safe enough for one job at a time."""

    _loaded: dict[tuple[str, str, str], FeatureNetwork] = field(default_factory=dict)

    def get(self, protocol: Protocol) -> FeatureNetwork:
        """The protocol's network. Raises what loading it raises."""
        key = (protocol.network, protocol.resize, protocol.precision)
        if key not in self._loaded:
            self._loaded[key] = Inception(protocol.resize, protocol.precision) if protocol.resize != "network" else PooledBackbone(protocol.network)
        return self._loaded[key]


@dataclass(frozen=True)
class Extracted:
    """Features of a series of images.

    Attributes:
        features: shape (n, d), of the images that decode, in their order.
        kept: their positions in the series, shape (n,).
        refused: position and reason of each image that does not decode, in their order.
    """

    features: NDArray[np.float32]
    kept: NDArray[np.intp]
    refused: dict[int, str]


def prepare(data: bytes, resolution: int) -> Image.Image:
    """An encoded image as RGB, reduced as a generator's training data are, to the pixel: its centre square, Lanczos' filter.

    Args:
        resolution: side of the result; 0: the image as it is.

    Raises:
        RefusedImageError: the bytes are no image that can be decoded.
    """
    image = decode_rgb(data, at_least=resolution or None)
    if not resolution or image.size == (resolution, resolution):
        return image
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    return image.resize((resolution, resolution), Image.Resampling.LANCZOS, box=(left, top, left + side, top + side))


def extract(network: FeatureNetwork, images: Sequence[bytes], resolution: int, threads: ThreadPoolExecutor) -> Extracted:
    """Features of encoded images; those that do not decode are left out, with the reason."""
    refused: dict[int, str] = {}

    def array(position: int) -> NDArray[np.float32] | None:
        try:
            return network.array(prepare(images[position], resolution))
        except RefusedImageError as error:
            refused[position] = str(error)
            return None

    arrays = dict(zip(range(len(images)), threads.map(array, range(len(images))), strict=True))
    decoded = [a for a in arrays.values() if a is not None]
    kept = [p for p, a in arrays.items() if a is not None]
    parts = [network.features(np.stack(decoded[i : i + _BATCH])) for i in range(0, len(decoded), _BATCH)]
    features = np.concatenate(parts) if parts else np.empty((0, 0), np.float32)
    # Threads refuse in any order; what is told of a set depends on the set alone.
    return Extracted(features, np.asarray(kept, dtype=np.intp), dict(sorted(refused.items())))
