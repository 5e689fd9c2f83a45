"""Which images train, which choose, which test: near-duplicates never parted, and each image where it was before.

A group of near-duplicates is a connected component of the collection's perceptual hashes. It is named after its smallest
image id, and its split follows from the sha256 of that name alone: a pure function of the set of images, the same on
every machine. Two things refine it:

- *Staying put.* An image that joins a group may become its smallest id, and a group's name would change with it. So a
  group that holds an image of the version before keeps that image's split; where it holds several from different splits
  (two groups grew together), the most frequent one wins, then the one that comes first in ``SPLITS``.
- *No empty class.* The hash leaves small classes without a test image now and then. A class with three groups or more
  is in every split; with two, in train and test; with one, in train. Groups are moved from the split that holds most of
  the class, those with the smallest hash first; groups of the version before move only where no others are left, and
  groups that hold two classes never do.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from cosmop_common.hamming import near_groups

#: In the order in which a tiny class fills them.
SPLITS = ("train", "test", "val")


@dataclass(frozen=True)
class Shares:
    """The share of groups that each split aims at; train gets the rest."""

    test: float
    val: float


def group_images(hashes: Mapping[str, int], distance: int) -> dict[str, str]:
    """The name of each image's group: the smallest image id of its connected component.

    Args:
        hashes: image id to its 64-bit perceptual hash.
        distance: images within this Hamming distance are never parted.
    """
    images = sorted(hashes)
    components = near_groups(np.array([hashes[i] for i in images], dtype=np.uint64), distance)
    # near_groups names a component by its smallest index, and the images are sorted: that is the smallest id.
    return {image: images[component] for image, component in zip(images, components, strict=True)}


def unit_hash(group: str) -> float:
    """A group's place in [0, 1): the first 8 bytes of the sha256 of its name, as a fraction."""
    return int.from_bytes(hashlib.sha256(f"split:{group}".encode()).digest()[:8], "big") / 2**64


def by_hash(group: str, shares: Shares) -> str:
    """The split that a group's name alone gives."""
    place = unit_hash(group)
    if place < shares.test:
        return "test"
    return "val" if place < shares.test + shares.val else "train"


def assign(classes: Mapping[str, str], groups: Mapping[str, str], shares: Shares, before: Mapping[str, str]) -> dict[str, str]:
    """The split of each group that holds a labelled image.

    Args:
        classes: labelled image to its class.
        groups: image to its group, for all images of the collection.
        shares: what the splits aim at.
        before: image to its split in the version before; empty when there is none.
    """
    members: dict[str, set[str]] = {}
    for image, label in classes.items():
        members.setdefault(groups[image], set()).add(label)
    kept = _kept_splits(groups, before)
    splits = {group: kept.get(group) or by_hash(group, shares) for group in members}
    wanted = [s for s in SPLITS if s != "val" or shares.val > 0]
    for label in sorted(set(classes.values())):
        held = sorted(g for g, labels in members.items() if label in labels)
        movable = [g for g in held if len(members[g]) == 1]
        _fill(splits, held, movable, wanted[: len(held)], settled=kept)
    return splits


def _kept_splits(groups: Mapping[str, str], before: Mapping[str, str]) -> dict[str, str]:
    votes: dict[str, Counter[str]] = {}
    for image, split in before.items():
        if image in groups:
            votes.setdefault(groups[image], Counter())[split] += 1
    return {group: min(counts, key=lambda s: (-counts[s], SPLITS.index(s))) for group, counts in votes.items()}


def _fill(splits: dict[str, str], groups: Sequence[str], movable: Sequence[str], needed: Sequence[str], settled: Mapping[str, str]) -> None:
    """Moves groups of one class until each split that it needs has one, as far as others can spare one.

    Groups that hold several classes stay: moving one for this class could empty a split of another.
    """
    for split in needed:
        held = Counter(splits[g] for g in groups)
        if held[split]:
            continue
        spare = [g for g in movable if held[splits[g]] > (splits[g] in needed)]
        if spare:
            moved = min(spare, key=lambda g: (g in settled, -held[splits[g]], unit_hash(g)))
            splits[moved] = split
