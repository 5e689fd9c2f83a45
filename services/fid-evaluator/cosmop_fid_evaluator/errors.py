"""What can be wrong with an evaluation: one class per failure."""

from __future__ import annotations

from cosmop_common.errors import InvalidInputError


class TooFewImagesError(InvalidInputError):
    """A set is empty or too small for what is asked of it."""


class UnknownProtocolError(InvalidInputError):
    """No protocol has this name."""


class UnknownMeasureError(InvalidInputError):
    """No measure has this name."""
