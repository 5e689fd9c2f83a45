"""One exception class per failure; each knows its gRPC status, so that servicers never translate by hand."""

from __future__ import annotations

import grpc

from cosmop_common.pb.cosmop.v1 import facts_pb2


class CosmopError(Exception):
    """Base of all our errors. The message names the thing that is wrong and the cure.

    Status: INTERNAL.
    """

    grpc_code: grpc.StatusCode = grpc.StatusCode.INTERNAL
    #: Trying again cannot help: the job fails, the message goes to DEAD, at the first attempt.
    permanent: bool = False


class InvalidInputError(CosmopError):
    """What the caller sent cannot be right. Status: INVALID_ARGUMENT."""

    grpc_code = grpc.StatusCode.INVALID_ARGUMENT
    permanent = True


class NotFoundError(CosmopError):
    """There is no such thing. Status: NOT_FOUND."""

    grpc_code = grpc.StatusCode.NOT_FOUND
    permanent = True


class NotReadyError(CosmopError):
    """What this needs does not exist yet (no labels, no active model). Status: FAILED_PRECONDITION."""

    grpc_code = grpc.StatusCode.FAILED_PRECONDITION
    permanent = True


class ChecksumError(CosmopError):
    """Bytes are not those that were recorded. Status: DATA_LOSS."""

    grpc_code = grpc.StatusCode.DATA_LOSS
    permanent = True


class UnreachableError(CosmopError):
    """A server cannot be reached. Status: UNAVAILABLE."""

    grpc_code = grpc.StatusCode.UNAVAILABLE


class StoreFailingError(UnreachableError):
    """The object store answers, and cannot do its work. Status: UNAVAILABLE."""


class StorageFullError(CosmopError):
    """A disk or a stream is full. Status: RESOURCE_EXHAUSTED."""

    grpc_code = grpc.StatusCode.RESOURCE_EXHAUSTED


class ConflictError(CosmopError):
    """Somebody else changed it first. Status: ABORTED."""

    grpc_code = grpc.StatusCode.ABORTED


class CancelledError(CosmopError):
    """Somebody asked for the run's end. Status: CANCELLED."""

    grpc_code = grpc.StatusCode.CANCELLED


class StoppingError(CosmopError):
    """The process is told to end; the job goes on elsewhere from its last checkpoint. Status: UNAVAILABLE."""

    grpc_code = grpc.StatusCode.UNAVAILABLE


class RefusedImageError(InvalidInputError):
    """An image that goes no further, with its reason from the closed list.

    Attributes:
        reason: a ``RefusalReason``.
        detail: what was found, and what was expected.
    """

    def __init__(self, reason: facts_pb2.RefusalReason.ValueType, detail: str) -> None:
        super().__init__(f"{reason_name(reason)}: {detail}")
        self.reason = reason
        self.detail = detail

    def refusal(self) -> facts_pb2.Refusal:
        """The refusal as a fact carries it."""
        return facts_pb2.Refusal(reason=self.reason, detail=self.detail)


def reason_name(reason: facts_pb2.RefusalReason.ValueType) -> str:
    """``REFUSAL_REASON_TOO_SMALL`` -> ``too_small``: the word of funnels, reports and metrics."""
    return facts_pb2.RefusalReason.Name(reason).removeprefix("REFUSAL_REASON_").lower()
