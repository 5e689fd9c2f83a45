"""Where in an image a verdict comes from: a heat map over the network's last feature map, and a picture of it.

The networks served here end in a global average, so no gradient has to be run through them:

``grad-cam``           for a linear head on the average, frozen or fine-tuned alike. Its logit is the mean over the map's cells of
                       ``weight @ cell`` plus the bias; the gradient that Grad-CAM asks for is the weight itself, and the map is exact
                       (Zhou et al., "Learning Deep Features for Discriminative Localization", CVPR 2016, equation 2; Selvaraju et al.,
                       "Grad-CAM", ICCV 2017, section 3.1: for such networks Grad-CAM is CAM).
``feature-occlusion``  for any other head (neighbours, Mahalanobis, the paper's SVM): what the score loses when a cell is replaced by
                       the average of all (Zeiler and Fergus, "Visualizing and Understanding Convolutional Networks", ECCV 2014,
                       section 4.2, on the last feature map instead of on pixels). For a linear head it is CAM less its mean.

Only what speaks for the verdict that was given is kept (Grad-CAM, equation 2), and the loudest cell becomes 1.
"""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cosmop_classifier.heads import Array, Features, Head, LinearHead

#: Dark blue, blue, green, yellow, red: colour at 0, 1/4, ... 1 of the heat.
_COLOURS = np.array([(32, 16, 96), (32, 96, 224), (32, 192, 128), (250, 220, 40), (220, 30, 30)], np.float32)
#: How much of the colour is seen where the heat is 1.
_OPACITY = 0.6


@dataclass(frozen=True)
class HeatMap:
    """How much each cell speaks for the verdict: (h, w) in [0, 1]."""

    values: Array
    method: str


def heat_map(head: Head, features: Features, *, positive: bool) -> HeatMap:
    """The heat map of one image.

    Args:
        features: of one image, its feature map (1, c, h, w) included.
        positive: the verdict that is to be explained.
    """
    assert features.feature_map is not None
    cells = features.feature_map[0].astype(np.float64)
    if isinstance(head, LinearHead):
        raw, method = np.tensordot(head.weight.astype(np.float64), cells, axes=1), "grad-cam"
    else:
        raw, method = _occlusion(head, features.feature_map), "feature-occlusion"
    heat = np.maximum(raw if positive else -raw, 0)
    highest = float(heat.max())
    return HeatMap((heat / highest if highest > 0 else heat).astype(np.float32), method)


def overlay(picture: Image.Image, heat: HeatMap) -> bytes:
    """What the network saw with the heat laid over it, as PNG. ``picture`` is RGB, fitted as for the network."""
    smooth = Image.fromarray(heat.values, "F").resize(picture.size, Image.Resampling.BICUBIC)
    values = np.clip(np.asarray(smooth), 0, 1)[..., None]
    place = values[..., 0] * (len(_COLOURS) - 1)
    colours = np.stack([np.interp(place, range(len(_COLOURS)), _COLOURS[:, channel]) for channel in range(3)], axis=-1)
    seen = np.asarray(picture, np.float32)
    blended = seen + _OPACITY * values * (colours - seen)
    sink = io.BytesIO()
    Image.fromarray(blended.round().astype(np.uint8)).save(sink, "PNG")
    return sink.getvalue()


def _occlusion(head: Head, feature_map: Array) -> NDArray[np.float64]:
    """The score's loss for each cell: (1, c, h, w) -> (h, w)."""
    _, channels, height, width = feature_map.shape
    count = height * width
    average = feature_map.mean((2, 3))
    flat = feature_map.reshape(channels, count).T
    pooled = np.asarray(average + (average - flat) / count, np.float32)
    maps: Array | None = None
    if head.needs_map:
        each = np.repeat(feature_map, count, axis=0).reshape(count, channels, count)
        each[np.arange(count), :, np.arange(count)] = average
        maps = np.asarray(each.reshape(count, channels, height, width), np.float32)
    whole = head.score(Features(average, feature_map if head.needs_map else None))
    return np.asarray(whole - head.score(Features(pooled, maps)), np.float64).reshape(height, width)
