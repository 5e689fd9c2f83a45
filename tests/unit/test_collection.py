"""Collection files: what is right is read, what is wrong is named with its cure."""

from __future__ import annotations

from pathlib import Path

import pytest
from cosmop_common.collection import Collection, CollectionError

ROOT = Path(__file__).resolve().parents[2]
GOOD = "name: borders\nclasses: [border, other]\npositive: border\n"


@pytest.mark.parametrize("path", sorted((ROOT / "collections").glob("*.yaml")), ids=lambda p: p.stem)
def test_every_collection_of_the_project_is_read(path: Path) -> None:
    collection = Collection.load(path)
    assert collection.name == path.stem


def test_the_papers_collection_is_the_papers() -> None:
    collection = Collection.load(ROOT / "collections" / "immigration.yaml")
    assert len(collection.criteria) == 4
    assert [k for k in collection.scrape.keywords if not k.endswith("immigration border")] == [
        "ukraine refugees", "ukraine", "russia", "refugees", "ukrainian refugees", "ukraine war",
    ]  # fmt: skip
    assert len(set(collection.scrape.keywords)) == len(collection.scrape.keywords) >= 160
    assert collection.dedup.distance == 0
    assert (collection.gan.kimg, collection.gan.synthetic) == (18000, 2276)
    assert collection.classifier.network == "resnet50"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (GOOD + "dedup: {distanse: 4}\n", "unknown key 'dedup.distanse': known keys are distance"),
        (GOOD + "colour: red\n", "unknown key 'colour': known keys are classes"),
        ("classes: [a, b]\npositive: a\n", "key 'name' is missing"),
        (GOOD.replace("borders", "My Borders"), "must be a slug"),
        (GOOD.replace("positive: border", "positive: frontier"), "must be one of classes (border, other)"),
        (GOOD + "dedup: {distance: many}\n", "dedup.distance"),
        (GOOD + "dataset: {test_share: 0.6, val_share: 0.5}\n", "keep their sum under 1"),
        ("- a\n- b\n", "expected a mapping"),
        ("a: [", "not YAML"),
    ],
)
def test_what_is_wrong_is_named(text: str, message: str) -> None:
    with pytest.raises(CollectionError) as error:
        Collection.parse(text, origin="mine.yaml")
    assert message in str(error.value)
    assert "mine.yaml" in str(error.value)


def test_json_gives_the_collection_back() -> None:
    collection = Collection.parse(GOOD)
    assert Collection.parse(collection.to_json()) == collection


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(CollectionError, match=r"nowhere\.yaml"):
        Collection.load(tmp_path / "nowhere.yaml")
