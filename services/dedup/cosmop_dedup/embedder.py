"""What a network sees in an image, for the grey zone: only loaded where a collection asks for it.

efficientnet-lite0's pooled features of the whole picture, squeezed into a square, by ONNX Runtime: this process never loads torch.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from cosmop_common.errors import CosmopError

from cosmop_dedup.similarity import quantise

if TYPE_CHECKING:
    from cosmop_vision.preprocess import Preprocessing
    from cosmop_vision.runtime import Extractor

_NETWORK = "efficientnet_lite0"
#: Name and version: any change of network, preprocessing or quantising changes it.
EMBEDDER = f"{_NETWORK}-stretch/1"


class EmbedderMissingError(CosmopError):
    """The package that knows networks is not installed here."""


def embed(data: bytes) -> bytes:
    """An image's embedding, as ``similarity.quantise`` writes it. CPU-bound: about 20 ms.

    Raises:
        EmbedderMissingError: cosmop-vision is not installed.
        WeightsUnavailableError: the network's weights cannot be had.
        RefusedImageError: the bytes are no image, or damaged.
    """
    extractor, preprocessing = _network()
    return quantise(extractor.features(preprocessing.array_of_bytes(data)[None])[0].reshape(-1))


@cache
def _network() -> tuple[Extractor, Preprocessing]:
    try:
        from cosmop_vision.preprocess import Preprocessing
        from cosmop_vision.runtime import Extractor
    except ImportError as error:
        raise EmbedderMissingError(
            f"a collection asks for dedup.grey_distance, which needs cosmop-vision: install cosmop-dedup[grey], or set it to 0 ({error})"
        ) from error
    extractor = Extractor.create(_NETWORK, ("pooled",), "onnx")
    return extractor, Preprocessing.of(extractor.network, fit="stretch")
