"""The drawn world's collection: settings of every stage small enough for two cores and a few minutes."""

from __future__ import annotations

from pathlib import Path

import yaml
from cosmop_common.collection import (
    ClassifierSettings,
    Collection,
    DatasetSettings,
    DedupSettings,
    EvaluationSettings,
    GanSettings,
    ScrapeSettings,
)

#: The collection's cap; one planted file is larger.
MAX_BYTES = 400_000


def collection() -> Collection:
    """Its settings."""
    return Collection(
        name="drawings",
        title="The drawn world",
        concept="People at a border: before a fence, a wall or a checkpoint, often with bags and barriers.",
        criteria=(
            "A border fence or wall with people before it",
            "People who wait at a checkpoint's barrier",
            "People with luggage who walk along a border fence",
        ),
        classes=("border", "other"),
        positive="border",
        scrape=ScrapeSettings(
            source="web",
            keywords=("drawings of people at a border",),
            max_bytes=MAX_BYTES,
            allow_private_addresses=True,
            requests_per_second=200,
            connections_per_host=4,
        ),
        dedup=DedupSettings(distance=4),
        dataset=DatasetSettings(test_share=0.3, val_share=0.2),
        gan=GanSettings(resolution=32, preset="tiny", kimg=3, snapshots=3, samples=128, synthetic=128, max_seconds=90),
        evaluation=EvaluationSettings(protocol="fd-efficientnet_lite0", max_images=512),
        classifier=ClassifierSettings(network="efficientnet_lite0", max_seconds=60),
    )


def write_collection(path: Path) -> None:
    """Writes it as the YAML that ``Collection.load`` reads, without what is default."""
    head = "# The drawn world's settings: drawings, not photos; budgets for two cores.\n"
    text = yaml.safe_dump(collection().model_dump(mode="json", exclude_defaults=True), sort_keys=False, allow_unicode=True, width=120)
    path.write_text(head + text, encoding="utf-8")
