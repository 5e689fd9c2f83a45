"""What can go wrong in screening images for people."""

from __future__ import annotations

from cosmop_common.errors import ChecksumError, InvalidInputError, NotReadyError


class ModelFileError(ChecksumError):
    """A model's file is damaged, or of a kind that this service does not serve."""


class SmokeTestError(NotReadyError):
    """A model gives no scores: it is not activated."""


class TrainingDataError(InvalidInputError):
    """The data cannot be trained on; the message names what is missing and the cure."""


class CheckpointError(ChecksumError):
    """A checkpoint is damaged, or of another training."""
