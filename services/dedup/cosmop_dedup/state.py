"""What the index role knows of one collection: its ``hashed`` facts in, its ``deduplicated`` facts out. No NATS in here."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from cosmop_common.collection import DedupSettings
from cosmop_common.pb.cosmop.v1 import facts_pb2

from cosmop_dedup.index import CollectionIndex, Member


@dataclass(frozen=True)
class Known:
    """A ``hashed`` fact and its place in the stream."""

    fact: facts_pb2.Hashed
    sequence: int


@dataclass(frozen=True)
class Counts:
    """How many images of a collection are what."""

    images: int
    unique: int
    same_hash: int
    near: int
    flat: int
    index_bytes: int


class CollectionState:
    """One collection: an index for each hash algorithm in it, since hashes of different ones are never compared.

    Args:
        rule: when two images count as copies.
        hashed: what is known at start.
    """

    def __init__(self, rule: DedupSettings, hashed: Iterable[Known] = ()) -> None:
        self.rule = rule
        #: The last word on each image: the sequence of its ``hashed`` fact.
        self._sequences: dict[str, int] = {}
        self._flat: set[str] = set()
        members: dict[str, list[Member]] = {}
        for known in hashed:
            self._note(known)
            if not known.fact.HasField("refusal"):
                members.setdefault(known.fact.algorithm, []).append(member_of(known.fact))
        self._indexes = {algorithm: self._index(group) for algorithm, group in members.items()}

    def with_rule(self, rule: DedupSettings) -> CollectionState:
        """The same images decided by another rule, from their stored hashes. CPU-bound; changes nothing here."""
        other = CollectionState(rule)
        other._sequences, other._flat = self._sequences, self._flat
        other._indexes = {algorithm: other._index(index.members()) for algorithm, index in self._indexes.items()}
        return other

    def apply(self, known: Known) -> set[str]:
        """Takes a ``hashed`` fact in; returns the images whose decision changed. An older word than the last is ignored."""
        fact = known.fact
        if known.sequence < self._sequences.get(fact.image, 0):
            return set()
        self._note(known)
        algorithm = None if fact.HasField("refusal") else fact.algorithm
        changed = set()
        for name, index in self._indexes.items():
            if name != algorithm:
                changed |= index.remove(fact.image)
        if algorithm is not None:
            changed |= self._indexes.setdefault(algorithm, self._index([])).put(member_of(fact))
        return changed

    def erase(self, image: str) -> set[str]:
        """Forgets an image; returns the images whose decision changed."""
        self._sequences.pop(image, None)
        self._flat.discard(image)
        return set().union(*(index.remove(image) for index in self._indexes.values()))

    def fact(self, collection: str, image: str, cause: int) -> facts_pb2.Deduplicated | None:
        """What is decided of an image, or None where it takes no part (refused, erased, unknown)."""
        index = self.index_of(image)
        if index is None:
            return None
        decision = index.decision(image)
        kind = facts_pb2.DUPLICATE_KIND_SAME_HASH if decision.distance == 0 else facts_pb2.DUPLICATE_KIND_NEAR
        return facts_pb2.Deduplicated(
            collection=collection,
            image=image,
            kind=facts_pb2.DUPLICATE_KIND_UNIQUE if decision.kept == image else kind,
            kept=decision.kept,
            distance=decision.distance,
            threshold=self.rule.distance,
            cause=cause,
        )

    def facts(self, collection: str) -> Iterator[facts_pb2.Deduplicated]:
        """What is decided of every image, without causes."""
        for image in self.images():
            fact = self.fact(collection, image, 0)
            assert fact is not None
            yield fact

    def index_of(self, image: str) -> CollectionIndex | None:
        """The index that holds an image."""
        return next((index for index in self._indexes.values() if image in index), None)

    def indexes(self) -> dict[str, CollectionIndex]:
        """All indexes, by algorithm."""
        return self._indexes

    def images(self) -> list[str]:
        """All images that a decision exists of, in no order."""
        return [image for index in self._indexes.values() for image in index.images()]

    def counts(self) -> Counts:
        """Totals. Time grows with the number of images."""
        unique = same = near = 0
        for index in self._indexes.values():
            for image in index.images():
                decision = index.decision(image)
                unique += decision.kept == image
                same += decision.kept != image and decision.distance == 0
                near += decision.distance > 0
        return Counts(unique + same + near, unique, same, near, len(self._flat), sum(i.nbytes for i in self._indexes.values()))

    def _index(self, members: list[Member]) -> CollectionIndex:
        return CollectionIndex(self.rule.distance, flips=self.rule.flips, members=members)

    def _note(self, known: Known) -> None:
        fact = known.fact
        self._sequences[fact.image] = known.sequence
        if fact.HasField("refusal") and fact.refusal.reason == facts_pb2.REFUSAL_REASON_FLAT:
            self._flat.add(fact.image)
        else:
            self._flat.discard(fact.image)


def member_of(fact: facts_pb2.Hashed) -> Member:
    """An image as the index knows it. A fact without turned hashes stands for its own seven times over."""
    turned = tuple(fact.turned) or (fact.phash,) * 7
    return Member.of(fact.image, (fact.phash, *turned), fact.width * fact.height, fact.size)
