"""What an evaluation may ask for: checked before it is queued, so that nobody waits to read of a slip of the pen, and again by the job."""

from __future__ import annotations

from collections.abc import Sequence

from cosmop_common.errors import InvalidInputError
from cosmop_common.imagesets import check_set
from cosmop_common.pb.cosmop.v1 import runs_pb2

from cosmop_fid_evaluator.errors import UnknownMeasureError
from cosmop_fid_evaluator.protocol import Protocol, find_protocol

#: Measures beside the protocol's distance, by name.
MEASURES = ("kid", "prdc", "infinity", "bootstrap", "copies", "leaks")
#: Larger than any generator's images: a picture of this side still fits the memory of every decoding thread.
MAX_RESOLUTION = 4096


def check_asked(job: runs_pb2.EvaluateJob) -> Protocol:
    """The protocol that is asked for.

    Raises:
        InvalidInputError: a set is missing or names no kind of set; a resolution out of bounds.
        UnknownProtocolError, UnknownMeasureError: no protocol, or no measure, has this name.
    """
    if not (job.reference and job.candidate):
        raise InvalidInputError("an evaluation needs a reference and a candidate set: dataset:, samples:, synthetic: or prefix: and what to take")
    check_set(job.reference)
    check_set(job.candidate)
    check_measures(job.measures)
    if job.resolution > MAX_RESOLUTION:
        raise InvalidInputError(f"images cannot be reduced to {job.resolution} px: at most {MAX_RESOLUTION}, or 0 to leave them as they are")
    return find_protocol(job.protocol)


def check_measures(names: Sequence[str]) -> None:
    """Raises ``UnknownMeasureError``."""
    if unknown := set(names) - {*MEASURES}:
        raise UnknownMeasureError(f"there is no measure {', '.join(sorted(unknown))}: known are {', '.join(MEASURES)}")
