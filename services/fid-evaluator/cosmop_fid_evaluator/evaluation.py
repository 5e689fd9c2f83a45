"""The measures of one evaluation, from features: each with its interval, and with a warning where it claims more than its N can."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from cosmop_common.records import MeasureRecord

from cosmop_fid_evaluator.asked import check_measures
from cosmop_fid_evaluator.errors import TooFewImagesError
from cosmop_fid_evaluator.extrapolation import frechet_infinity
from cosmop_fid_evaluator.frechet import frechet_value, frechet_with_influence
from cosmop_fid_evaluator.intervals import bootstrap_interval, influence_interval, wilson_interval
from cosmop_fid_evaluator.kid import kid
from cosmop_fid_evaluator.leaks import Leak
from cosmop_fid_evaluator.moments import Features
from cosmop_fid_evaluator.neighbours import Copies, copies, prdc
from cosmop_fid_evaluator.protocol import Protocol

#: Nearer than this share of the training image's distance to its own nearest fellow: a suspected copy.
COPY_RATIO = 0.5
#: What FID's own paper asks for, and what it calls too few to compare by.
_USUAL_IMAGES = 10_000


@dataclass(frozen=True)
class Outcome:
    """What was measured.

    Attributes:
        measures: the distance first: it is the one that snapshots are ranked by.
        copies: nearest training image of each candidate, where "copies" was asked for.
    """

    measures: list[MeasureRecord]
    warnings: list[str]
    copies: Copies | None


def evaluate(protocol: Protocol, reference: Features, candidate: Features, names: Sequence[str] = ()) -> Outcome:
    """The protocol's Frechet distance, and further measures by name.

    Args:
        reference, candidate: features, shapes (n1, d) and (n2, d), two rows at least.
        names: of "kid", "prdc", "infinity", "bootstrap", "copies"; "leaks" needs more than these features: see ``leak_measures``.

    Raises:
        TooFewImagesError: a set is too small for the distance. A further measure that needs more is left out with a warning.
        UnknownMeasureError: a name is none of these.
    """
    check_measures(names)
    warnings = size_warnings(protocol, len(reference), len(candidate))
    distance = frechet_with_influence(reference, candidate)
    measures = [MeasureRecord(name=protocol.measure, value=distance.value, interval=influence_interval(distance), method="influence")]
    suspects = None
    for name in dict.fromkeys(n for n in names if n != "leaks"):
        try:
            if name == "copies":
                suspects = copies(reference, candidate)
                measures.append(_copies_measure(suspects))
            else:
                measures += _FURTHER[name](protocol, reference, candidate)
        except TooFewImagesError as error:
            warnings.append(f"{name} is left out: {error}")
    return Outcome(measures, warnings, suspects)


def leak_measures(rotation: Leak, colour: Leak) -> list[MeasureRecord]:
    """Shares of turned and of tinted candidates, each beside what the same test says of real images."""
    shares = {"turned": rotation.candidate, "turned-reference": rotation.reference, "tinted": colour.candidate, "tinted-reference": colour.reference}
    return [MeasureRecord(name=name, value=share.value, interval=share.interval, method=share.method) for name, share in shares.items()]


def size_warnings(protocol: Protocol, reference_images: int, candidate_images: int) -> list[str]:
    """What the numbers of images do not allow to claim."""
    warnings = []
    fewest = min(reference_images, candidate_images)
    if fewest <= protocol.features:
        warnings.append(
            f"{protocol.measure} of {reference_images} against {candidate_images} images has singular covariances of {protocol.features} features: "
            "most of its value is bias, which grows as N falls. Compare it only at this very N; kid has no such bias"
        )
    elif fewest < _USUAL_IMAGES:
        warnings.append(f"{protocol.measure} of fewer than {_USUAL_IMAGES:,} images is biased upwards: it is not comparable with published values")
    return warnings


def _kid(protocol: Protocol, reference: Features, candidate: Features) -> list[MeasureRecord]:
    found = kid(reference, candidate)
    return [MeasureRecord(name=_named("kid", protocol), value=found.value, interval=found.interval, method="influence")]


def _prdc(protocol: Protocol, reference: Features, candidate: Features) -> list[MeasureRecord]:
    found = prdc(reference, candidate)
    shares = {"precision": found.precision, "recall": found.recall, "density": found.density, "coverage": found.coverage}
    return [MeasureRecord(name=_named(name, protocol), value=share.value, interval=share.interval, method=share.method) for name, share in shares.items()]


def _infinity(protocol: Protocol, reference: Features, candidate: Features) -> list[MeasureRecord]:
    found = frechet_infinity(reference, candidate)
    return [MeasureRecord(name=f"{protocol.measure}-infinity", value=found.value, interval=found.interval, method="regression")]


def _bootstrap(protocol: Protocol, reference: Features, candidate: Features) -> list[MeasureRecord]:
    value = frechet_value(reference, candidate)
    return [
        MeasureRecord(name=f"{protocol.measure}-bootstrap", value=value, interval=bootstrap_interval(frechet_value, reference, candidate), method="bootstrap")
    ]


def _copies_measure(found: Copies) -> MeasureRecord:
    suspected = int(found.suspected(COPY_RATIO).sum())
    return MeasureRecord(name="copies", value=suspected / found.ratio.size, interval=wilson_interval(suspected, found.ratio.size), method="wilson")


def _named(measure: str, protocol: Protocol) -> str:
    """KID and its like are Inception's by name too; on another network they say so."""
    return measure if protocol.network.startswith("inception") else f"{measure}-{protocol.network}"


_FURTHER: dict[str, Callable[[Protocol, Features, Features], list[MeasureRecord]]] = {
    "kid": _kid,
    "prdc": _prdc,
    "infinity": _infinity,
    "bootstrap": _bootstrap,
}
