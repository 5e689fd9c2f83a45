"""Probabilities that mean what they say, and the band in which a person should look.

- ``temperature``: one number that divides the logits (Guo et al., "On Calibration of Modern Neural Networks", ICML 2017,
  section 4.2), fitted on the validation split against Platt's smoothed targets, so that a perfectly separated handful of
  images does not make it infinitely sure.
- ``band``: label-conditional split conformal prediction (Vovk et al., "Algorithmic Learning in a Random World", 2005,
  section 4.5). The prediction set of a probability p holds each class that is not too strange for p at level ``alpha``;
  where it holds both classes or none, the classifier does not know. For two classes this is one interval of p.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import expit

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

_LOG_RANGE = (math.log(0.05), math.log(20.0))


def probabilities(logits: Floats, temperature: float) -> Floats:
    """sigmoid(logit / temperature); shape as ``logits``."""
    return np.asarray(expit(logits / temperature), dtype=np.float64)


def fit_temperature(logits: Floats, truth: Bools) -> float:
    """The temperature that minimises the negative log-likelihood of held-out images.

    Args:
        logits: shape (n,).
        truth: shape (n,); both classes must occur.
    """
    positives, negatives = int(truth.sum()), int((~truth).sum())
    # Platt, "Probabilistic Outputs for Support Vector Machines", 1999, section 2.2.
    target = np.where(truth, (positives + 1) / (positives + 2), 1 / (negatives + 2))

    def loss(log_temperature: float) -> float:
        z = logits / math.exp(log_temperature)
        return float(np.mean(np.logaddexp(0, z) - target * z))

    return math.exp(float(minimize_scalar(loss, bounds=_LOG_RANGE, method="bounded", options={"xatol": 1e-4}).x))


def negative_log_likelihood(probability: Floats, truth: Bools) -> float:
    """Mean, in nats."""
    p = np.clip(probability, 1e-12, 1 - 1e-12)
    return float(-np.mean(np.where(truth, np.log(p), np.log1p(-p))))


def reliability(probability: Floats, truth: Bools, bins: int = 10) -> list[tuple[float, float, int]]:
    """(mean probability, share of positives, images) of each equal-width bin that holds any: the calibration plot."""
    place = np.minimum((probability * bins).astype(int), bins - 1)
    return [(float(probability[place == b].mean()), float(truth[place == b].mean()), int((place == b).sum())) for b in range(bins) if (place == b).any()]


def expected_calibration_error(probability: Floats, truth: Bools, bins: int = 10) -> float:
    """Mean distance between probability and share of positives over the bins, weighted by images (Guo et al., equation 3)."""
    return sum(n * abs(mean - share) for mean, share, n in reliability(probability, truth, bins)) / max(1, len(truth))


def band(probability: Floats, truth: Bools, alpha: float) -> tuple[float, float]:
    """The interval of probabilities for which a person should look.

    Of new images like these, at most a share ``alpha`` of each class falls on the wrong side outside the band.
    With fewer than 1/alpha - 1 held-out images of a class nothing can be promised, and the band is wide on its side.

    Args:
        probability: shape (n,), of held-out images.
        truth: shape (n,).
        alpha: in (0, 1).
    """
    strange_positive = conformal_quantile(1 - probability[truth], alpha)
    strange_negative = conformal_quantile(probability[~truth], alpha)
    # "positive" is in the set where p >= 1 - strange_positive, "negative" where p <= strange_negative.
    low, high = sorted((1 - strange_positive, strange_negative))
    return float(low), float(high)


def conformal_quantile(scores: Floats, alpha: float) -> float:
    """The ceil((n + 1)(1 - alpha))-th smallest score; 1 where there are too few."""
    rank = math.ceil((len(scores) + 1) * (1 - alpha))
    return float(np.sort(scores)[rank - 1]) if rank <= len(scores) else 1.0
