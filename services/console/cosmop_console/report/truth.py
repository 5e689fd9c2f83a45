"""What each stage got right, measured against labels that were known before and that no stage has seen."""

from __future__ import annotations

import asyncio
import csv
import itertools
import math
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, urlsplit

from cosmop_common.collection import Collection
from cosmop_common.facts import Facts
from cosmop_common.pb.cosmop.v1 import facts_pb2
from cosmop_common.records import Value
from cosmop_common.store import Store

from cosmop_console.report.curation import find_card

_Z = 1.959964
_COPIES = {"exact_copy", "near_copy"}
_KEPT = {"", "keep"} | _COPIES
_FITTED_DIGITS = 12


@dataclass(frozen=True)
class Counts:
    """A confusion matrix."""

    tp: int
    fp: int
    fn: int
    tn: int = 0

    @property
    def precision(self) -> Value:
        """Tp / (tp + fp), with Wilson's interval."""
        return wilson(self.tp, self.tp + self.fp)

    @property
    def recall(self) -> Value:
        """Tp / (tp + fn), with Wilson's interval."""
        return wilson(self.tp, self.tp + self.fn)

    @property
    def accuracy(self) -> Value:
        """(tp + tn) / all, with Wilson's interval."""
        return wilson(self.tp + self.tn, self.tp + self.fp + self.fn + self.tn)


@dataclass
class Truth:
    """Each stage against the truth; None where the truth says nothing of it."""

    refusals: Counts | None = None
    dedup: Counts | None = None
    screen: Counts | None = None
    #: Images whose truth is known and that the filter's head was fitted on: not counted in ``screen``.
    screen_seen: int = 0


@dataclass
class _Facts:
    """What was said of each image."""

    image_of: dict[str, str] = field(default_factory=dict)
    refused: set[str] = field(default_factory=set)
    kept: dict[str, str] = field(default_factory=dict)
    screened: dict[str, facts_pb2.Screened] = field(default_factory=dict)


def wilson(successes: int, n: int) -> Value:
    """A proportion with its 95 % interval (Wilson, 1927: JASA 22, 209)."""
    if n == 0:
        return Value(value=None, n=0)
    p = successes / n
    centre = (p + _Z * _Z / (2 * n)) / (1 + _Z * _Z / n)
    half = _Z * math.sqrt(p * (1 - p) / n + _Z * _Z / (4 * n * n)) / (1 + _Z * _Z / n)
    return Value(value=p, interval=(max(0.0, centre - half), min(1.0, centre + half)), n=n, method="wilson")


async def measure_truth(facts: Facts, store: Store, collection: Collection, folder: Path) -> Truth | None:
    """Compares what was said of the images of a folder with its ``labels.csv``; None where there is none to read."""
    rows = await asyncio.to_thread(_rows, folder)
    if not rows:
        return None
    said = await _read(facts, collection.name, {row["file"] for row in rows})
    truth = Truth()
    if any(row.get("truth") for row in rows):
        truth.refusals = _refusals(rows, said)
        truth.dedup = _copies(rows, said)
    if any(row.get("label") for row in rows):
        await _people(truth, rows, said, store)
    return truth


def _rows(folder: Path) -> list[dict[str, str]]:
    path = folder / "labels.csv" if folder.is_dir() else folder
    try:
        with path.open(encoding="utf-8-sig", newline="") as source:
            rows = [{k: (v or "").strip() for k, v in row.items() if k} for row in csv.DictReader(source)]
    except (OSError, UnicodeDecodeError, csv.Error):
        return []
    return [row for row in rows if row.get("file")]


async def _read(facts: Facts, collection: str, files: set[str]) -> _Facts:
    said = _Facts(await _sightings(facts, collection, files))
    async for scraped in facts.replay(facts_pb2.Scraped, collection):
        if scraped.fact.HasField("refusal"):
            said.refused.add(scraped.fact.image)
    async for hashed in facts.replay(facts_pb2.Hashed, collection):
        if hashed.fact.HasField("refusal"):
            said.refused.add(hashed.fact.image)
    async for decided in facts.replay(facts_pb2.Deduplicated, collection):
        said.kept[decided.fact.image] = decided.fact.kept
    async for screened in facts.replay(facts_pb2.Screened, collection):
        said.screened[screened.fact.image] = screened.fact
    return said


async def _sightings(facts: Facts, collection: str, files: set[str]) -> dict[str, str]:
    """The image that each file was seen as, by the end of its URL's path."""
    by_name = defaultdict(list)
    for file in files:
        by_name[file.rsplit("/", 1)[-1]].append(file)
    image_of = {}
    async for sighted in facts.replay(facts_pb2.Sighted, collection):
        path = unquote(urlsplit(sighted.fact.image_url).path)
        for file in by_name.get(path.rsplit("/", 1)[-1], []):
            if path.endswith("/" + file) or path == file:
                image_of[file] = sighted.fact.image
    return image_of


def _refusals(rows: list[dict[str, str]], said: _Facts) -> Counts:
    """Files that should have been refused (blank, corrupt, oversized, no image), against those that were."""
    pairs = [(row.get("truth", "") not in _KEPT, said.image_of[row["file"]] in said.refused) for row in rows if row["file"] in said.image_of]
    return Counts(sum(t and p for t, p in pairs), sum(p and not t for t, p in pairs), sum(t and not p for t, p in pairs), sum(not (t or p) for t, p in pairs))


def _copies(rows: list[dict[str, str]], said: _Facts) -> Counts:
    """Pairs of files that are copies of one original, against pairs that were put together.

    Pairs and not single files, because which of two copies is kept is the system's choice.
    """
    usable = [row for row in rows if row.get("truth", "") in _KEPT and said.image_of.get(row["file"], "") in said.kept]
    original = {row["file"]: row.get("copy_of") or row["file"] for row in usable}
    true, found = defaultdict(list), defaultdict(list)
    for row in usable:
        file = row["file"]
        true[_root(file, original)].append(file)
        found[said.kept[said.image_of[file]]].append(file)
    true_pairs = {pair for group in true.values() for pair in itertools.combinations(sorted(group), 2)}
    found_pairs = {pair for group in found.values() for pair in itertools.combinations(sorted(group), 2)}
    return Counts(len(true_pairs & found_pairs), len(found_pairs - true_pairs), len(true_pairs - found_pairs))


def _root(file: str, original: dict[str, str]) -> str:
    seen = set()
    while file in original and original[file] != file and file not in seen:
        seen.add(file)
        file = original[file]
    return file


async def _people(truth: Truth, rows: list[dict[str, str]], said: _Facts, store: Store) -> None:
    """The human filter on images that its head has not seen; each image counts once, duplicates not at all."""
    labels = {said.image_of[row["file"]]: row["label"] for row in rows if row.get("label") and row["file"] in said.image_of}
    cards: dict[str, set[str]] = {}
    tp = fp = fn = tn = 0
    for image, fact in said.screened.items():
        if image not in labels or fact.HasField("refusal") or said.kept.get(image, image) != image:
            continue
        if fact.model not in cards:
            card = await find_card(store, fact.model)
            cards[fact.model] = set(card.details.get("fitted_on", [])) if card else set()
        if image[:_FITTED_DIGITS] in cards[fact.model]:
            truth.screen_seen += 1
            continue
        human = labels[image] == "human"
        tp += human and fact.people
        fp += fact.people and not human
        fn += human and not fact.people
        tn += not human and not fact.people
    truth.screen = Counts(tp, fp, fn, tn)
