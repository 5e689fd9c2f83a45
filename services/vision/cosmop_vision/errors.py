"""What can go wrong with networks and their weights."""

from __future__ import annotations

from cosmop_common.errors import ChecksumError, CosmopError, InvalidInputError, NotReadyError


class UnknownNetworkError(InvalidInputError):
    """No network has this name."""


class WeightsUnavailableError(NotReadyError):
    """The weights are neither installed nor in a folder, and cannot be downloaded."""


class WeightsFormatError(InvalidInputError):
    """A file of weights does not hold what its network needs."""


class WeightsSettingError(InvalidInputError):
    """``COSMOP_WEIGHTS_FILES`` does not name a file and its sha256."""


class WeightsChecksumError(ChecksumError):
    """A file of weights is not the one that was published."""


class ExportError(CosmopError):
    """A network could not be written as ONNX."""


class DeviceError(NotReadyError):
    """The device that was asked for is not there."""
