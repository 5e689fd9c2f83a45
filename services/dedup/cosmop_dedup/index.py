"""One collection's images and what is decided of each: changed by arrivals, always equal to deciding the whole set.

An arrival re-decides no more than it can change. Images are re-asked in rank order, starting with the new one; where
the answer "kept or not" changes, the worse-ranked images that are its copies are asked too. Each is asked after all
better ones have their final word, so that the result is that of ``decide.decide`` on the whole set.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from cosmop_common.collection import DedupSettings
from numpy.typing import NDArray

from cosmop_dedup.decide import decide
from cosmop_dedup.growing import GrowingArray
from cosmop_dedup.members import Member, Members, Rank
from cosmop_dedup.phash import SYMMETRIES
from cosmop_dedup.search import HashSearch
from cosmop_dedup.similarity import reach

__all__ = ["CollectionIndex", "Decision", "Member"]

_UNDECIDED = -1


@dataclass(frozen=True)
class Decision:
    """Whose duplicate an image is; its own where it is kept."""

    image: str
    kept: str
    distance: int


class CollectionIndex:
    """The images of one collection, all hashed by one algorithm.

    Args:
        rule: when two images are copies.
        members: what is known at start.
    """

    def __init__(self, rule: DedupSettings, members: Iterable[Member] = ()) -> None:
        self.rule = rule
        self._variants = len(SYMMETRIES) if rule.flips else 1
        self._members = Members.best_first(members)
        hashes = self._members.hashes[:, : self._variants]
        self._search = HashSearch(self._variants)
        self._search.add(hashes)
        kept, bits = decide(hashes, rule, self._members.embeddings)
        self._kept, self._bits = GrowingArray(np.int32), GrowingArray(np.uint8)
        self._kept.extend(kept)
        self._bits.extend(bits)

    def __len__(self) -> int:
        return len(self._members)

    def __contains__(self, image: str) -> bool:
        return self._members.row(image) is not None

    @property
    def nbytes(self) -> int:
        """Bytes of everything that is held for the images."""
        return self._members.nbytes + self._search.nbytes + self._kept.nbytes + self._bits.nbytes

    def images(self) -> list[str]:
        """All images, in no order."""
        return [self._members.image(row) for row in self._members.rows().tolist()]

    def members(self) -> Iterable[Member]:
        """All images with their hashes, in no order."""
        return (self._members[row] for row in self._members.rows().tolist())

    def member(self, image: str) -> Member | None:
        """What is known of an image, or None where it is not in."""
        row = self._members.row(image)
        return None if row is None else self._members[row]

    def measure(self, image: str) -> tuple[int, int]:
        """Pixels and bytes of an image. Raises ``KeyError``."""
        member = self._members[self._row(image)]
        return member.pixels, member.size

    def decision(self, image: str) -> Decision:
        """What is decided of an image. Raises ``KeyError``."""
        row = self._row(image)
        return Decision(image, self._members.image(int(self._kept.rows[row])), int(self._bits.rows[row]))

    def decisions(self) -> Iterator[Decision]:
        """What is decided of every image, in no order."""
        rows, names = self._members.rows(), self._members.image
        for row, kept, bits in zip(rows.tolist(), self._kept.rows[rows].tolist(), self._bits.rows[rows].tolist(), strict=True):
            image = names(row)
            yield Decision(image, image if kept == row else names(kept), bits)

    def put(self, member: Member) -> set[str]:
        """Adds an image, or changes one; returns the images whose decision changed."""
        row = self._members.row(member.image)
        if row is not None and self._members[row] == member:
            self._members.heard(row, member.sequence)
            return set()
        changed = self.remove(member.image)
        row = self._members.append(member)
        self._kept.extend(np.array([_UNDECIDED]))
        self._bits.extend(np.zeros(1))
        self._search.add(member.hashes[None, : self._variants])
        changed |= self._settle([row])
        return changed | {member.image}

    def remove(self, image: str) -> set[str]:
        """Takes an image out; returns the images whose decision changed. One that is not there changes nothing."""
        row = self._members.row(image)
        if row is None:
            return set()
        worse = self._worse(row) if self._kept.rows[row] == row else []
        # The row stays in the search, a hole that every reader skips: removals are rare (erasures, changed images).
        self._members.remove(row)
        return self._settle(worse)

    def near(self, hashes: NDArray[np.uint64], distance: int, k: int) -> list[tuple[str, int]]:
        """The ``k`` nearest images within ``distance``, nearest first, equally near ones by rank.

        Args:
            hashes: the picture's own hash; its turned ones after it where they shall count as well. Shape (1,) or (8,).
        """
        hits = self._search.within(hashes[None, :], distance)
        alive = self._members.alive(hits.row)
        rows, distances = hits.row[alive], hits.distance[alive]
        if len(rows) > k:
            # Only those that can be among the nearest are ranked: at a large distance all images are hits.
            among = distances <= np.partition(distances, k - 1)[k - 1]
            rows, distances = rows[among], distances[among]
        found = [(bits, self._rank(row), row) for row, bits in zip(rows.tolist(), distances.tolist(), strict=True)]
        return [(self._members.image(row), bits) for bits, _, row in heapq.nsmallest(k, found)]

    def duplicates(self, kept: str) -> list[tuple[str, int]]:
        """A kept image's duplicates with their distance to it, nearest first. Raises ``KeyError``."""
        row = self._row(kept)
        return self._named(other for other, _ in self._copies(row) if self._kept.rows[other] == row)

    def clusters(self) -> dict[str, list[tuple[str, int]]]:
        """Each kept image that has duplicates: these with their distance to it, nearest first."""
        rows = self._members.rows()
        found: dict[int, list[int]] = {}
        for row in rows[self._kept.rows[rows] != rows].tolist():
            found.setdefault(int(self._kept.rows[row]), []).append(row)
        return {self._members.image(kept): self._named(duplicates) for kept, duplicates in found.items()}

    def counts(self) -> tuple[int, int, int]:
        """Images that are kept, duplicates at distance 0, and duplicates farther off."""
        rows = self._members.rows()
        copies = self._kept.rows[rows] != rows
        same = int((copies & (self._bits.rows[rows] == 0)).sum())
        return len(rows) - int(copies.sum()), same, int(copies.sum()) - same

    def _settle(self, rows: Sequence[int]) -> set[str]:
        """Asks rows, and all whose answer hangs on theirs, in rank order; returns the images whose decision changed."""
        waiting = [(self._rank(row), row) for row in rows]
        heapq.heapify(waiting)
        queued = set(rows)
        changed: set[str] = set()
        while waiting:
            _, row = heapq.heappop(waiting)
            before, answer = (int(self._kept.rows[row]), int(self._bits.rows[row])), self._ask(row)
            if answer == before:
                continue
            self._kept.rows[row], self._bits.rows[row] = answer
            changed.add(self._members.image(row))
            turned = (answer[0] == row) != (before[0] == row)
            for other in self._worse(row) if turned else ():
                if other not in queued:
                    queued.add(other)
                    heapq.heappush(waiting, (self._rank(other), other))
        return changed

    def _ask(self, row: int) -> tuple[int, int]:
        """The rule for one row, all better ones being decided."""
        rank = self._rank(row)
        kept = [(bits, self._rank(other), other) for other, bits in self._copies(row) if self._kept.rows[other] == other]
        bits, _, other = min((k for k in kept if k[1] < rank), default=(0, rank, row))
        return other, bits

    def _worse(self, row: int) -> list[int]:
        rank = self._rank(row)
        return [other for other, _ in self._copies(row) if self._rank(other) > rank]

    def _copies(self, row: int) -> list[tuple[int, int]]:
        """The other rows that are copies of one, with their distances."""
        hits = self._search.within(self._members.hashes[row : row + 1, : self._variants], reach(self.rule))
        others = self._members.alive(hits.row) & (hits.row != row)
        rows, bits = hits.row[others], hits.distance[others]
        copies = self._members.embeddings.copies(np.full(len(rows), row), rows, bits, self.rule)
        return list(zip(rows[copies].tolist(), bits[copies].tolist(), strict=True))

    def _named(self, duplicates: Iterable[int]) -> list[tuple[str, int]]:
        found = [(self._members.image(row), int(self._bits.rows[row])) for row in duplicates]
        return sorted(found, key=lambda d: (d[1], d[0]))

    def _rank(self, row: int) -> Rank:
        return self._members.rank(row)

    def _row(self, image: str) -> int:
        row = self._members.row(image)
        if row is None:
            raise KeyError(image)
        return row
