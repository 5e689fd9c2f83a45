"""What the index role knows of one collection: its ``hashed`` facts in, its ``deduplicated`` facts out. No NATS in here."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from cosmop_common.collection import DedupSettings
from cosmop_common.pb.cosmop.v1 import facts_pb2

from cosmop_dedup.index import CollectionIndex, Decision, Member


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
        #: The last word on each image that has no hash.
        self._refused: dict[str, _Refused] = {}
        members: dict[str, list[Member]] = {}
        for known in hashed:
            if known.fact.HasField("refusal"):
                self._refused[known.fact.image] = _Refused.of(known)
            else:
                members.setdefault(known.fact.algorithm, []).append(member_of(known))
        self._indexes = {algorithm: CollectionIndex(rule, group) for algorithm, group in members.items()}

    def with_rule(self, rule: DedupSettings) -> CollectionState:
        """The same images decided by another rule, from their stored hashes. CPU-bound; changes nothing here."""
        other = CollectionState(rule)
        other._refused = self._refused
        other._indexes = {algorithm: CollectionIndex(rule, index.members()) for algorithm, index in self._indexes.items()}
        return other

    def apply(self, known: Known) -> set[str]:
        """Takes a ``hashed`` fact in; returns the images whose decision changed. An older word than the last is ignored."""
        fact = known.fact
        if known.sequence < self._heard(fact.image):
            return set()
        refused = fact.HasField("refusal")
        changed = set()
        for algorithm, index in self._indexes.items():
            if refused or algorithm != fact.algorithm:
                changed |= index.remove(fact.image)
        self._refused.pop(fact.image, None)
        if refused:
            self._refused[fact.image] = _Refused.of(known)
        else:
            changed |= self._indexes.setdefault(fact.algorithm, CollectionIndex(self.rule)).put(member_of(known))
        return changed

    def erase(self, image: str) -> set[str]:
        """Forgets an image; returns the images whose decision changed."""
        self._refused.pop(image, None)
        return set().union(*(index.remove(image) for index in self._indexes.values()))

    def fact(self, collection: str, image: str, cause: int) -> facts_pb2.Deduplicated | None:
        """What is decided of an image, or None where it takes no part (refused, erased, unknown)."""
        index = self.index_of(image)
        return None if index is None else self._fact(collection, index.decision(image), cause)

    def facts(self, collection: str) -> Iterator[facts_pb2.Deduplicated]:
        """What is decided of every image, without causes."""
        return (self._fact(collection, decision, 0) for index in self._indexes.values() for decision in index.decisions())

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
        """Totals."""
        unique, same, near = (sum(column) for column in zip((0, 0, 0), *(index.counts() for index in self._indexes.values()), strict=True))
        flat = sum(refused.flat for refused in self._refused.values())
        return Counts(unique + same + near, unique, same, near, flat, sum(index.nbytes for index in self._indexes.values()))

    def _fact(self, collection: str, decision: Decision, cause: int) -> facts_pb2.Deduplicated:
        kind = facts_pb2.DUPLICATE_KIND_SAME_HASH if decision.distance == 0 else facts_pb2.DUPLICATE_KIND_NEAR
        return facts_pb2.Deduplicated(
            collection=collection,
            image=decision.image,
            kind=facts_pb2.DUPLICATE_KIND_UNIQUE if decision.kept == decision.image else kind,
            kept=decision.kept,
            distance=decision.distance,
            threshold=self.rule.distance,
            cause=cause,
        )

    def _heard(self, image: str) -> int:
        """Sequence of the last word on an image; 0 where there is none."""
        if image in self._refused:
            return self._refused[image].sequence
        index = self.index_of(image)
        member = index.member(image) if index else None
        return member.sequence if member else 0


@dataclass(frozen=True, slots=True)
class _Refused:
    """An image without a hash."""

    sequence: int
    flat: bool

    @classmethod
    def of(cls, known: Known) -> _Refused:
        return cls(known.sequence, known.fact.refusal.reason == facts_pb2.REFUSAL_REASON_FLAT)


def member_of(known: Known) -> Member:
    """An image as the index knows it. A fact without turned hashes stands for its own seven times over."""
    fact = known.fact
    turned = fact.turned or (fact.phash,) * 7
    return Member.of(fact.image, (fact.phash, *turned), fact.width * fact.height, fact.size, (fact.embedder, fact.embedding), known.sequence)
