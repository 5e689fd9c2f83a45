"""What the report says of the truth, on counts that can be checked by hand."""

from __future__ import annotations

import pytest
from cosmop_console.report.truth import Counts, _copies, _Facts, _refusals, wilson


def row(file: str, truth: str = "keep", copy_of: str = "") -> dict[str, str]:
    return {"file": file, "truth": truth, "copy_of": copy_of}


def test_wilsons_interval_is_the_published_one() -> None:
    # Newcombe, 1998 (Statistics in Medicine 17, table I): 81 of 263 gives 0.2553 to 0.3662.
    value = wilson(81, 263)
    assert value.interval == pytest.approx((0.2553, 0.3662), abs=1e-4)
    assert wilson(0, 20).interval == pytest.approx((0.0, 0.1611), abs=1e-4)
    assert wilson(0, 0).value is None


def test_refusals_are_counted_against_what_should_be_refused() -> None:
    rows = [row("a"), row("b", "blank"), row("c", "corrupt"), row("d"), row("unseen", "blank")]
    said = _Facts({"a": "A", "b": "B", "c": "C", "d": "D"}, refused={"B", "D"})
    assert _refusals(rows, said) == Counts(tp=1, fp=1, fn=1, tn=1)


def test_copies_are_pairs_whichever_copy_was_kept() -> None:
    rows = [row("a"), row("a2", "near_copy", "a"), row("a3", "near_copy", "a2"), row("b"), row("b2", "exact_copy", "b"), row("c")]
    # a2 was kept for a and itself; a3 was not found; b and b2 are the same bytes; c was taken for a copy of b.
    said = _Facts({"a": "A", "a2": "A2", "a3": "A3", "b": "B", "b2": "B", "c": "C"}, kept={"A": "A2", "A2": "A2", "A3": "A3", "B": "B", "C": "B"})
    counts = _copies(rows, said)
    assert (counts.tp, counts.fp, counts.fn) == (2, 2, 2)
    assert counts.precision.value == 0.5
