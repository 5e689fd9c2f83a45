"""The card of a trained head: what it was fitted on, what was measured, and how its threshold was chosen."""

from __future__ import annotations

import hashlib
from dataclasses import asdict

from cosmop_common.records import ModelCard

from cosmop_human_detector.heads import HeadShape
from cosmop_human_detector.registry import HEAD_FILE, KIND
from cosmop_human_detector.training import Trained

#: Hex digits of an image's id that the card keeps: enough to know an image again, short for thousands.
ID_DIGITS = 12


def head_card(trained: Trained, head: bytes, *, name: str, version: str, collection: str, dataset: str, ids: tuple[str, ...], miss_rate: float) -> ModelCard:
    """The card of a head that was just fitted.

    Args:
        head: its file.
        dataset: what it was fitted on, in words.
        ids: sha256 of every image that it was fitted on.
        miss_rate: the largest share of people that its threshold may miss.
    """
    shape: HeadShape = trained.head.shape
    threshold = trained.threshold
    return ModelCard(
        name=name,
        version=version,
        kind=KIND,
        collection=collection,
        network=shape.network,
        method="linear head on windows of the feature map, soft maximum over windows",
        dataset=dataset,
        classes=["people", "none"],
        positive="people",
        threshold=threshold.value,
        threshold_rule=(
            f"least balanced error among thresholds that miss at most {miss_rate:.1%} of people on held-out images; "
            f"there it misses {threshold.miss_rate:.1%} (upper 95 % bound {threshold.miss_rate_bound:.1%}) of {threshold.people} "
            f"and lets {threshold.false_alarm_rate:.1%} of {threshold.none} images without people through"
        ),
        metrics={"held_out": trained.held_out},
        files={HEAD_FILE: hashlib.sha256(head).hexdigest()},
        details={
            "backend": "head",
            "shape": asdict(shape),
            "band": list(threshold.band),
            "miss_rate": threshold.miss_rate,
            "miss_rate_bound": threshold.miss_rate_bound,
            "fitted_on": sorted(image[:ID_DIGITS] for image in ids),
        },
    )
