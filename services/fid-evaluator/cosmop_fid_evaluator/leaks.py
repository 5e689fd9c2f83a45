"""Did augmentation leak: does the generator make turned or tinted images because it was shown such ones?

A generator trained with augmentation of probability p near 1 learns the augmented distribution: samples come rotated, or with foreign
colours, although no real image is (Karras et al., "Training GANs with Limited Data", 2020, section 2.2). Both are measured
against what the same test says of real images, because a ball looks the same whichever way it is turned.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cosmop_fid_evaluator.errors import TooFewImagesError
from cosmop_fid_evaluator.intervals import wilson_interval
from cosmop_fid_evaluator.moments import Features, Matrix
from cosmop_fid_evaluator.neighbours import Share

_FOLDS = 5
_RIDGE = 0.1
#: Share of the real images whose mean colour lies within what counts as usual.
USUAL_COLOURS = 0.95


@dataclass(frozen=True)
class Leak:
    """Share of candidates with a property, and the share of real images of which the same test says so."""

    candidate: Share
    reference: Share


def rotation_leak(turned: Sequence[Features], candidate: Features) -> Leak:
    """Share of images that look turned by 90, 180 or 270 degrees.

    A ridge classifier learns the turn from the reference's features at all four; real images are judged by the folds that did not
    see them, candidates by all folds together.

    Args:
        turned: features of the reference at 0, 90, 180 and 270 degrees, each of shape (n, d), n >= 10.
        candidate: shape (m, d).
    """
    n = len(turned[0])
    if n < 2 * _FOLDS:
        raise TooFewImagesError(f"turned images cannot be learned from {n} images: at least {2 * _FOLDS} are needed")
    everything = np.concatenate([np.asarray(part, dtype=np.float64) for part in turned])
    mean, scale = everything.mean(axis=0), everything.std(axis=0)
    scale[scale == 0] = 1
    standard = [(np.asarray(part, dtype=np.float64) - mean) / scale for part in turned]
    unknown = (np.asarray(candidate, dtype=np.float64) - mean) / scale
    mistaken = np.zeros(n, dtype=bool)
    scores = np.zeros((len(candidate), len(turned)))
    for fold in range(_FOLDS):
        held = np.arange(n) % _FOLDS == fold
        classify = _ridge([part[~held] for part in standard])
        mistaken[held] = classify(standard[0][held]).argmax(axis=1) != 0
        scores += classify(unknown)
    return Leak(_share(scores.argmax(axis=1) != 0), _share(mistaken))


def colour_leak(reference: Features, candidate: Features) -> Leak:
    """Share of images whose mean chroma lies outside the ellipse that holds 95 % of the real images.

    Args:
        reference, candidate: mean red, green and blue of each image in [0, 255], shapes (n, 3) and (m, 3), n >= 20.
    """
    if len(reference) < 20:  # noqa: PLR2004 - 95 % of fewer is no less than all
        raise TooFewImagesError(f"usual colours cannot be learned from {len(reference)} images: at least 20 are needed")
    real, made = _chroma(reference), _chroma(candidate)
    precision = np.linalg.pinv(np.cov(real, rowvar=False))

    def distance(chroma: Matrix) -> Matrix:
        centred = chroma - real.mean(axis=0)
        return np.asarray(np.einsum("ij,jk,ik->i", centred, precision, centred))

    bound = np.quantile(distance(real), USUAL_COLOURS)
    return Leak(_share(distance(made) > bound), _share(distance(real) > bound))


def _ridge(classes: Sequence[Matrix]) -> Callable[[Matrix], Matrix]:
    """Scores of each class by ridge regression on one-hot classes, in its dual form: features outnumber images."""
    seen = np.concatenate(classes)
    wanted = np.repeat(np.eye(len(classes)), [len(part) for part in classes], axis=0) - 1 / len(classes)
    kernel = seen @ seen.T / seen.shape[1]
    dual = np.linalg.solve(kernel + _RIDGE * np.eye(len(kernel)), wanted)
    return lambda x: np.asarray(x @ seen.T @ dual / seen.shape[1])


def _chroma(colours: Features) -> Matrix:
    """Opponent colours, red against green and both against blue: brightness may differ, tint may not."""
    red, green, blue = np.asarray(colours, dtype=np.float64).T
    return np.stack([red - green, (red + green) / 2 - blue], axis=1)


def _share(hits: NDArray[np.bool_]) -> Share:
    return Share(float(hits.mean()), wilson_interval(float(hits.sum()), hits.size), "wilson")
