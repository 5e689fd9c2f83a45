"""What can go wrong here, one class per failure."""

from __future__ import annotations

from cosmop_common.errors import ChecksumError, CosmopError, InvalidInputError, NotReadyError


class TrainerOptionError(InvalidInputError):
    """An option or preset that does not exist, or a value it cannot have."""


class TooFewImagesError(InvalidInputError):
    """Fewer usable images than one batch: nothing can be learned from them."""


class SnapshotMismatchError(InvalidInputError):
    """Weights that belong to another network than the one asked for."""


class DamagedSnapshotError(ChecksumError):
    """A snapshot's weights are not those that were recorded."""


class DamagedCheckpointError(ChecksumError):
    """No checkpoint of a run can be read any more."""


class TeamOrderError(CosmopError):
    """Processes that train together do not do the same thing: the job's other processes must be started anew."""


class NoSnapshotError(NotReadyError):
    """A run that has no snapshot to generate with."""
