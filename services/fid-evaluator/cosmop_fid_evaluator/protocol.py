"""How a distance was measured, by name, and the rule that only like is compared with like.

The same two sets of images differ by tens of FID between tools: by the resize alone 57.4 becomes 65.7 (StyleGAN2 on MetFaces).
So every result carries its protocol as a string, and comparing results of different strings is an error.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Literal

from cosmop_fid_evaluator.errors import UnknownProtocolError
from cosmop_fid_evaluator.resize import Resize

#: Counts changes of preprocessing that the string would not tell otherwise; part of it.
_RECIPE = 1


@dataclass(frozen=True)
class Protocol:
    """One way of measuring.

    Attributes:
        name: what callers ask for, and the name of the distance in results. Only Inception's is ever called FID.
        network: feature network.
        resize: how images get the network's size; "network": by the network's own preprocessing.
        precision: of the feature network.
        features: dimensions.
    """

    name: str
    network: Literal["inception-2015-12-05", "efficientnet_lite0"]
    resize: Resize | Literal["network"]
    precision: Literal["fp32", "bf16"]
    features: int

    @property
    def measure(self) -> str:
        """Name of the distance."""
        return self.name

    def extraction(self, weights_sha256: str, resolution: int) -> str:
        """What determines an image's features, as a string: the key of cached ones.

        Args:
            weights_sha256: of the network's weights.
            resolution: images are centre-cropped and reduced to this side first, as a generator's training data are; 0: not.
        """
        first = f"crop-{resolution}" if resolution else "none"
        return f"network={self.network};weights={weights_sha256[:16]};prepare={first};resize={self.resize};precision={self.precision};recipe={_RECIPE}"

    def describe(self, weights_sha256: str, resolution: int, reference_images: int, candidate_images: int) -> str:
        """The full protocol of a result: two results may be compared exactly when these strings are equal."""
        return f"{self.name};{self.extraction(weights_sha256, resolution)};covariance=n-1;n={reference_images}/{candidate_images}"


PROTOCOLS: dict[str, Protocol] = {
    protocol.name: protocol
    for protocol in (
        Protocol("fid", "inception-2015-12-05", "tf1", "fp32", 2048),
        # Faster and near: ranks, never reported as FID.
        Protocol("fid-bf16", "inception-2015-12-05", "tf1", "bf16", 2048),
        Protocol("fid-clean", "inception-2015-12-05", "bicubic", "fp32", 2048),
        Protocol("fid-torchmetrics", "inception-2015-12-05", "bilinear", "fp32", 2048),
        Protocol("fd-efficientnet_lite0", "efficientnet_lite0", "network", "fp32", 1280),
    )
}


def find_protocol(name: str) -> Protocol:
    """The protocol of this name; empty is "fid". Raises ``UnknownProtocolError``."""
    try:
        return PROTOCOLS[name or "fid"]
    except KeyError:
        raise UnknownProtocolError(f"there is no protocol {name!r}: known are {', '.join(PROTOCOLS)}") from None


def digest(extraction: str) -> str:
    """A short name of an extraction, for object keys."""
    return hashlib.sha256(extraction.encode()).hexdigest()[:16]
