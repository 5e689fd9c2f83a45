"""The card of a trained filter: what it was fitted on, what was measured, and how its threshold was chosen."""

from __future__ import annotations

import hashlib
from dataclasses import asdict
from typing import TYPE_CHECKING

from cosmop_common.records import ModelCard, Value

from cosmop_human_detector.registry import HEAD_FILE, KIND
from cosmop_human_detector.thresholds import Threshold
from cosmop_human_detector.tuned import BACKEND, NETWORK_FILE

if TYPE_CHECKING:
    from cosmop_human_detector.learning import Learnt
    from cosmop_human_detector.plan import Plan
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
    return _card(
        trained.threshold,
        {HEAD_FILE: head},
        {"held_out": trained.held_out},
        miss_rate=miss_rate,
        name=name,
        version=version,
        collection=collection,
        network=trained.head.shape.network,
        method="linear head on windows of the feature map, soft maximum over windows",
        dataset=dataset,
        details={"backend": "head", "shape": asdict(trained.head.shape), "fitted_on": _short(ids)},
    )


def learnt_card(learnt: Learnt, plan: Plan, *, name: str, version: str, collection: str, dataset: str) -> tuple[ModelCard, dict[str, bytes]]:
    """The card and the files of what a training made."""
    files = {HEAD_FILE: learnt.head.to_bytes()}
    details: dict[str, object] = {
        "backend": "head",
        "shape": asdict(learnt.head.shape),
        "fitted_on": _short(learnt.fitted_on),
        "plan": plan.model_dump(mode="json"),
    }
    method = "linear head on windows of the feature map, soft maximum over windows"
    if learnt.network is not None:
        files[NETWORK_FILE] = learnt.network
        details |= {"backend": BACKEND, "epochs": [e.as_dict() for e in learnt.epochs], "best_epoch": learnt.best_epoch}
        start = "random weights" if plan.from_scratch else "its published weights"
        method += f"; the whole network fine-tuned from {start}, epoch {learnt.best_epoch} of {len(learnt.epochs) - 1} kept"
    card = _card(
        learnt.threshold,
        files,
        learnt.metrics,
        miss_rate=plan.miss_rate,
        name=name,
        version=version,
        collection=collection,
        network=plan.network,
        method=method,
        dataset=dataset,
        details=details,
    )
    return card, files


def _card(
    threshold: Threshold,
    files: dict[str, bytes],
    metrics: dict[str, dict[str, Value]],
    *,
    miss_rate: float,
    details: dict[str, object],
    **told: str,
) -> ModelCard:
    return ModelCard.model_validate(
        told
        | {
            "kind": KIND,
            "classes": ["people", "none"],
            "positive": "people",
            "threshold": threshold.value,
            "threshold_rule": rule(threshold, miss_rate),
            "metrics": metrics,
            "files": {name: hashlib.sha256(data).hexdigest() for name, data in files.items()},
            "details": details
            | {
                "band": list(threshold.band),
                "stated_miss_rate": miss_rate,
                "miss_rate": threshold.miss_rate,
                "miss_rate_bound": threshold.miss_rate_bound,
                "miss_rate_promised": threshold.promised,
            },
        }
    )


def rule(threshold: Threshold, miss_rate: float) -> str:
    """How a threshold was chosen and what it does, in a sentence."""
    ceiling = "whose upper 95 % bound keeps the stated miss rate of" if threshold.promised else "that miss, as far as was seen, at most"
    return (
        f"least balanced error among thresholds {ceiling} {miss_rate:.1%} of people on held-out images; "
        f"there it misses {threshold.miss_rate:.1%} (upper 95 % bound {threshold.miss_rate_bound:.1%}) of {threshold.people} "
        f"and lets {threshold.false_alarm_rate:.1%} of {threshold.none} images without people through"
    )


def _short(ids: tuple[str, ...]) -> list[str]:
    return sorted(image[:ID_DIGITS] for image in ids)
