"""Where a message stands, read from its reply subject."""

from __future__ import annotations

import pytest
from cosmop_common.facts import _place


@pytest.mark.parametrize(
    "reply",
    [
        "$JS.ACK.FACTS_HASHED.abc.1.77.3.1700000000000000000.12",
        "$JS.ACK._.ACCHASH.FACTS_HASHED.abc.1.77.3.1700000000000000000.12",
        "$JS.ACK.hub.ACCHASH.FACTS_HASHED.abc.1.77.3.1700000000000000000.12.random",
    ],
)
def test_sequence_and_what_is_left_of_both_forms(reply: str) -> None:
    assert _place(reply) == (77, 12)
