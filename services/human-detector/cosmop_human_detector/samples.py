"""Labelled images by reference: known by where they lie, read when they are needed, so that data of any size can be trained on.

A source is named by one string:

=================================  ============================================================================================
``pass:<folder>``                  PASS as it is published: ``PASS.<n>.tar`` and ``pass_metadata.csv``; nobody is on its images
``crowdhuman:<folder>``            CrowdHuman as it is published: ``annotation_*.odgt`` and zips of images; people on all of them
``folder:<folder>`` or a path      ``labels.csv``, or the subfolders ``human`` and ``no_human``
``dataset:<collection>/<version>`` a dataset version of the store, see ``cosmop_human_detector.data_versions``
=================================  ============================================================================================

No torch, no NATS in here.
"""

from __future__ import annotations

import hashlib
import heapq
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

from cosmop_human_detector.errors import TrainingDataError

KINDS = ("pass", "crowdhuman", "folder", "dataset")


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle in pixels of the image as stored."""

    x: float
    y: float
    width: float
    height: float

    @property
    def area(self) -> float:
        """In square pixels."""
        return max(0.0, self.width) * max(0.0, self.height)


@dataclass(frozen=True, slots=True)
class Sample:
    """One labelled image, by reference."""

    #: Unique in its source: a path, an archive's member, an image's id.
    name: str
    people: bool
    #: Where it came from; images of one source share habits that are no sign of people.
    source: str
    #: Names the content without reading it where reading is dear: a sha256, or name, size and checksum.
    identity: str
    #: Images of one group are never parted between training and measuring.
    group: str
    #: File, byte offset and size, for sources that find an image by them.
    place: tuple[str, int, int] = ("", 0, 0)
    #: Visible parts of the people on it, where they are known, those to be ignored left out.
    boxes: tuple[Box, ...] = ()
    #: Where there may be people too: what the annotations tell us to ignore.
    ignored: tuple[Box, ...] = ()

    @property
    def order(self) -> bytes:
        """Places samples at random, the same way every time and on every machine."""
        return hashlib.sha256(self.identity.encode()).digest()

    @property
    def largest(self) -> Box | None:
        """The visible part of the largest person."""
        return max(self.boxes, key=lambda box: box.area, default=None)


class Source(Protocol):
    """Where labelled images come from."""

    #: Why images of the source are not trained on, counted: "missing", "only_ignored", "damaged_part", ...
    left_out: Counter[str]

    def samples(self) -> Iterator[Sample]:
        """All labelled images, in an order that depends on the data alone. Raises ``TrainingDataError``."""
        ...

    def read(self, sample: Sample) -> bytes:
        """The encoded bytes. Called from several threads. Raises ``RefusedImageError`` where they cannot be had."""
        ...


def split_spec(spec: str) -> tuple[str, str]:
    """``"pass:/data"`` -> ``("pass", "/data")``; a plain path is a folder.

    Raises:
        TrainingDataError: the string names no data.
    """
    kind, colon, place = spec.partition(":")
    if colon and kind in KINDS:
        if not place:
            raise TrainingDataError(f"{spec!r} names no place: expected {kind}:{'<collection>/<version>' if kind == 'dataset' else '<folder>'}")
        return kind, place
    if colon and "/" not in kind and "\\" not in kind and len(kind) > 1:
        raise TrainingDataError(f"{spec!r} names no data that can be trained on: expected {', '.join(f'{k}:...' for k in KINDS)} or the path of a folder")
    if not spec:
        raise TrainingDataError("an empty string names no data: give pass:, crowdhuman:, folder: or dataset: and a place")
    return "folder", spec


def choose(samples: Iterable[Sample], limit: int) -> list[Sample]:
    """At most ``limit`` samples of each kind (0: all), by the hash of their identities; each identity once.

    Of a source of millions only those that are kept are held in memory.
    """
    kept: dict[bool, list[tuple[int, str, Sample]]] = {True: [], False: []}
    seen: set[str] = set()
    for sample in samples:
        # Negated, so that the heap's smallest is the one that goes first.
        entry = (-int.from_bytes(sample.order[:8], "big"), sample.identity, sample)
        heap = kept[sample.people]
        if sample.identity in seen:
            continue
        if not limit or len(heap) < limit:
            heapq.heappush(heap, entry)
            seen.add(sample.identity)
        elif entry[:2] > heap[0][:2]:
            seen.discard(heapq.heapreplace(heap, entry)[1])
            seen.add(sample.identity)
    chosen = [entry[2] for heap in kept.values() for entry in heap]
    return sorted(chosen, key=lambda s: (s.order, s.identity))
