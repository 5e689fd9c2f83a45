"""All that one training sees: the samples chosen from its sources, in three parts that share no group."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cosmop_common.errors import RefusedImageError

from cosmop_human_detector.data_crowdhuman import CrowdHumanSource
from cosmop_human_detector.data_folder import FolderSource
from cosmop_human_detector.data_pass import PassSource
from cosmop_human_detector.data_versions import BlockingStore, VersionSource
from cosmop_human_detector.errors import TrainingDataError
from cosmop_human_detector.samples import Sample, Source, choose, split_spec

#: Shares of the groups: what early stopping looks at, and what chooses the threshold. Neither is trained on.
VAL_SHARE = 0.1
HELD_OUT_SHARE = 0.2


@dataclass
class Corpus:
    """Samples and their sources."""

    samples: list[Sample]
    left_out: Counter[str]
    _source_of: dict[str, Source]
    #: sha256 of what was read, by the sample's identity.
    digests: dict[str, str] = field(default_factory=dict)

    def read(self, sample: Sample) -> bytes:
        """The encoded bytes of a sample. Raises ``RefusedImageError``."""
        data = self._source_of[sample.identity].read(sample)
        self.digests[sample.identity] = hashlib.sha256(data).hexdigest()
        return data

    def sha256s(self, samples: Iterable[Sample]) -> list[str]:
        """The sha256 of each sample that can be read, in order."""
        found = []
        for sample in samples:
            if sample.identity not in self.digests:
                try:
                    self.read(sample)
                except RefusedImageError:
                    continue
            found.append(self.digests[sample.identity])
        return sorted(found)

    def part(self, name: str) -> list[Sample]:
        """The samples of "train", "val" or "held_out"."""
        return [s for s in self.samples if part_of(s.group) == name]


def open_source(spec: str, store: BlockingStore) -> Source:
    """The source that a string names. Raises ``TrainingDataError``."""
    kind, place = split_spec(spec)
    if kind == "dataset":
        return VersionSource(place, store)
    folder = Path(place).expanduser()
    if not folder.exists():
        raise TrainingDataError(f"{spec!r}: {folder} does not exist on the machine where the training runs: name a path that it sees")
    makers: dict[str, Callable[[Path], Source]] = {"pass": PassSource, "crowdhuman": CrowdHumanSource, "folder": FolderSource}
    return makers[kind](folder)


def gather(specs: Sequence[str], store: BlockingStore, limit: int = 0, on_sample: Callable[[int], None] = lambda _n: None) -> Corpus:
    """Lists all sources and chooses what is trained on.

    Args:
        limit: at most so many of each kind (with and without people), by hash; 0: all.
        on_sample: is told after each thousand samples how many more were seen; may raise to stop.

    Raises:
        TrainingDataError: no data, or data of one kind only.
    """
    if not specs:
        raise TrainingDataError("the job names no data: give it pass:, crowdhuman:, folder: or dataset: and a place")
    sources = [open_source(spec, store) for spec in specs]
    source_of: dict[str, Source] = {}
    left_out: Counter[str] = Counter()

    def of_source(source: Source) -> Iterator[Sample]:
        for number, sample in enumerate(source.samples(), 1):
            if number % 1000 == 0:
                on_sample(1000)
            yield sample
        left_out.update(source.left_out)

    chosen: list[Sample] = []
    for source in sources:
        kept = choose(of_source(source), limit)
        source_of |= {s.identity: source for s in kept if s.identity not in source_of}
        chosen = choose([*chosen, *kept], limit)
    for people, word in ((True, "with people"), (False, "without people")):
        if not any(s.people == people for s in chosen):
            raise TrainingDataError(
                f"{', '.join(specs)}: no image {word}: a filter is trained on both kinds, "
                "as pass: (without people) beside crowdhuman: (with), or a folder of both"
            )
    return Corpus(chosen, left_out, source_of)


def part_of(group: str) -> str:
    """The part that a group of samples belongs to, for ever: by the hash of its name."""
    place = int.from_bytes(hashlib.sha256(f"part:{group}".encode()).digest()[:8], "big") / 2**64
    if place < HELD_OUT_SHARE:
        return "held_out"
    return "val" if place < HELD_OUT_SHARE + VAL_SHARE else "train"
