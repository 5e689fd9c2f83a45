"""What the labellers say together of one image."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum


@dataclass(frozen=True)
class Vote:
    """One labeller's last word on one image or on one of its copies."""

    labeller: str
    #: A class name; empty when the labeller could not say, or took the label back.
    label: str
    unsure: bool = False


class Verdict(StrEnum):
    """How the votes stand together."""

    UNLABELLED = ""
    AGREED = "agreed"
    DISPUTED = "disputed"
    UNSURE = "unsure"


@dataclass(frozen=True)
class Consensus:
    """The outcome of the votes."""

    verdict: Verdict
    #: The class, when agreed.
    label: str = ""
    #: How many labellers voted for it.
    labellers: int = 0


def consensus(votes: Iterable[Vote]) -> Consensus:
    """The class that more than half of the labellers chose, of all who looked.

    Votes on copies of an image are votes on the image. A labeller whose own words on two copies contradict each other
    makes the image disputed, whatever the others say: one of the words is a slip, and nobody knows which. Where no class
    has a majority but nobody contradicts (one says sport, another cannot say), the image is unsure.
    """
    words: dict[str, set[str]] = {}
    for vote in votes:
        if vote.label or vote.unsure:
            words.setdefault(vote.labeller, set()).add("" if vote.unsure else vote.label)
    if not words:
        return Consensus(Verdict.UNLABELLED)
    choices = {labeller: said - {""} for labeller, said in words.items()}
    if any(len(said) > 1 for said in choices.values()):
        return Consensus(Verdict.DISPUTED)
    counts = Counter(label for said in choices.values() for label in said)
    if counts:
        label, count = counts.most_common(1)[0]
        if 2 * count > len(words):
            return Consensus(Verdict.AGREED, label, count)
    return Consensus(Verdict.DISPUTED if len(counts) > 1 else Verdict.UNSURE)
