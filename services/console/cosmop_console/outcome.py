"""What became of one image: a pure function of its last facts, whatever order they arrived in.

Each distinct image has exactly one outcome, so the funnel adds up by construction (``cosmop_console.funnel``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class Outcome(StrEnum):
    """Where an image stands, in the order in which the rules below are asked."""

    ERASED = "erased"
    REJECTED = "rejected"
    SAME_HASH = "same_hash"
    NEAR = "near"
    FAILED = "failed"
    PEOPLE = "people"
    NONE = "none"
    UNSCREENED = "unscreened"
    PENDING = "pending"


#: Outcomes of images that are kept: the funnel's ``unique``.
UNIQUE = (Outcome.PEOPLE, Outcome.NONE, Outcome.UNSCREENED)
#: Outcomes of images that are another's copies.
COPIES = (Outcome.SAME_HASH, Outcome.NEAR)

#: Which fact answers which: a dead letter about the left one means that the right one is missing.
ANSWERED_BY = {"scraped": "hashed", "hashed": "deduplicated", "deduplicated": "screened"}


@dataclass(frozen=True)
class Letter:
    """A dead letter about one fact of an image."""

    #: Kind of the fact that could not be processed, and its stream sequence.
    kind: str
    sequence: int
    reason: str


@dataclass(frozen=True)
class ImageState:
    """The last facts of one image, as far as its outcome depends on them."""

    erased: bool = False
    #: The reason of the first stage that refused the image, and empty where none did.
    scrape_refusal: str = ""
    hash_refusal: str = ""
    screen_refusal: str = ""
    #: "", "unique", "same_hash", "near".
    kind: str = ""
    #: None before screening.
    people: bool | None = None
    #: Stream sequence of each kind's last fact; a kind that has none is missing.
    sequences: Mapping[str, int] = field(default_factory=dict)
    letters: tuple[Letter, ...] = ()


def standing_letter(state: ImageState) -> Letter | None:
    """The dead letter that still holds the image up, if one does.

    A letter stands while the stage that failed has not answered and the fact it failed on is still the last word: a
    fact that was replaced since is delivered anew, so the image waits again and has not failed.
    """
    for letter in state.letters:
        answer = ANSWERED_BY.get(letter.kind)
        if answer and answer not in state.sequences and letter.sequence >= state.sequences.get(letter.kind, 0):
            return letter
    return None


def decide(state: ImageState) -> tuple[Outcome, str]:
    """The outcome of an image, and why: the refusal's reason, or the dead letter's.

    The order of the rules is the order of the page that defines the funnel (docs/architecture.md): what a person asked for
    (erasure) before what a stage refused, a refusal before a likeness, a likeness before a failure. A unique image whose
    screening failed counts as failed, not as unique: nobody would ever screen it.
    """
    refusal = state.scrape_refusal or state.hash_refusal or state.screen_refusal
    if state.erased:
        return Outcome.ERASED, ""
    if refusal:
        return Outcome.REJECTED, refusal
    if state.kind in COPIES:
        return Outcome(state.kind), ""
    if letter := standing_letter(state):
        return Outcome.FAILED, letter.reason
    return _unique(state) if state.kind == "unique" else Outcome.PENDING, ""


def _unique(state: ImageState) -> Outcome:
    if state.people is None:
        return Outcome.UNSCREENED
    return Outcome.PEOPLE if state.people else Outcome.NONE
