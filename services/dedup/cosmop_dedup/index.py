"""One collection's images and what is decided of each: changed by arrivals, always equal to deciding the whole set.

An arrival re-decides no more than it can change. Images are re-asked in rank order, starting with the new one; where
the answer "kept or not" changes, the worse-ranked images within the distance are asked too. Each is asked after all
better ones have their final word, so that the result is that of ``decide.decide`` on the whole set.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cosmop_dedup.decide import decide
from cosmop_dedup.phash import SYMMETRIES
from cosmop_dedup.search import HashSearch

_UNDECIDED = -1


@dataclass(frozen=True, slots=True)
class Member:
    """An image as the index knows it. Made by ``Member.of``; there may be millions."""

    image: str
    #: Eight hashes of 64 bits, in the machine's byte order.
    packed: bytes
    pixels: int
    #: Bytes.
    size: int

    @classmethod
    def of(cls, image: str, hashes: Sequence[int], pixels: int, size: int) -> Member:
        """``hashes``: its own first, then those of its seven turned pictures (``phash.SYMMETRIES``)."""
        return cls(image, np.array(hashes, np.uint64).tobytes(), pixels, size)

    @property
    def hashes(self) -> NDArray[np.uint64]:
        """All eight, its own first: shape (8,)."""
        return np.frombuffer(self.packed, np.uint64)

    @property
    def rank(self) -> tuple[int, int, str]:
        """Sorts the best first: most pixels, most bytes, smallest sha256."""
        return (-self.pixels, -self.size, self.image)


@dataclass(frozen=True)
class Decision:
    """Whose duplicate an image is; its own where it is kept."""

    image: str
    kept: str
    distance: int


class CollectionIndex:
    """The images of one collection, all hashed by one algorithm.

    Args:
        distance: up to which two images are duplicates.
        flips: whether flips and rotations by 90 degrees count as copies.
    """

    def __init__(self, distance: int, *, flips: bool = False, members: Iterable[Member] = ()) -> None:
        self.distance = distance
        self._variants = len(SYMMETRIES) if flips else 1
        ranked = sorted(members, key=lambda m: m.rank)
        self._members: list[Member | None] = [*ranked]
        self._rows = {m.image: row for row, m in enumerate(ranked)}
        hashes = self._stack(ranked)
        self._search = HashSearch(hashes.shape[1])
        self._search.add(hashes)
        kept, bits = decide(hashes, distance)
        self._kept: list[int] = kept.tolist()
        self._bits: list[int] = bits.tolist()

    def __len__(self) -> int:
        return len(self._rows)

    def __contains__(self, image: str) -> bool:
        return image in self._rows

    @property
    def nbytes(self) -> int:
        """Bytes of the hashes that searches run over."""
        return self._search.nbytes

    def images(self) -> list[str]:
        """All images, in no order."""
        return list(self._rows)

    def members(self) -> list[Member]:
        """All images with their hashes, in no order."""
        return [m for m in self._members if m]

    def member(self, image: str) -> Member | None:
        """An image's hashes and size, or None."""
        row = self._rows.get(image)
        return None if row is None else self._members[row]

    def decision(self, image: str) -> Decision:
        """What is decided of an image. Raises ``KeyError``."""
        row = self._rows[image]
        return Decision(image, self._name(self._kept[row]), self._bits[row])

    def put(self, member: Member) -> set[str]:
        """Adds an image, or changes one; returns the images whose decision changed."""
        old = self.member(member.image)
        if old == member:
            return set()
        changed = self.remove(member.image) if old else set()
        row = len(self._members)
        self._members.append(member)
        self._rows[member.image] = row
        self._kept.append(_UNDECIDED)
        self._bits.append(0)
        self._search.add(self._stack([member]))
        changed |= self._settle([row])
        return changed | {member.image}

    def remove(self, image: str) -> set[str]:
        """Takes an image out; returns the images whose decision changed. One that is not there changes nothing."""
        row = self._rows.pop(image, None)
        if row is None:
            return set()
        was_kept = self._kept[row] == row
        worse = self._worse(row) if was_kept else []
        # The row stays in the search, a hole that every reader skips: removals are rare (erasures, changed images).
        self._members[row] = None
        return self._settle(worse) - {image}

    def near(self, hashes: NDArray[np.uint64], distance: int, k: int) -> list[tuple[str, int]]:
        """The ``k`` nearest images within ``distance``, nearest first, equally near ones by rank.

        Args:
            hashes: the picture's own hash; its turned ones after it where they shall count as well. Shape (1,) or (8,).
        """
        found = [(bits, member.rank, member.image) for row, bits in self._within(hashes, distance) if (member := self._members[row])]
        return [(image, bits) for bits, _, image in heapq.nsmallest(k, found)]

    def duplicates(self, kept: str) -> list[tuple[str, int]]:
        """A kept image's duplicates with their distance to it, nearest first. Raises ``KeyError``."""
        row = self._rows[kept]
        found = [(self._alive(other).image, bits) for other, bits in self._neighbours(row) if self._kept[other] == row]
        return sorted(found, key=lambda d: (d[1], d[0]))

    def clusters(self) -> dict[str, list[tuple[str, int]]]:
        """Each kept image that has duplicates: these with their distance to it, nearest first."""
        found: dict[str, list[tuple[str, int]]] = {}
        for image, row in self._rows.items():
            if self._kept[row] != row:
                found.setdefault(self._name(self._kept[row]), []).append((image, self._bits[row]))
        return {kept: sorted(duplicates, key=lambda d: (d[1], d[0])) for kept, duplicates in found.items()}

    def _settle(self, rows: Iterable[int]) -> set[str]:
        """Asks rows, and all whose answer hangs on theirs, in rank order; returns the images whose decision changed."""
        waiting = [(self._alive(row).rank, row) for row in rows]
        heapq.heapify(waiting)
        queued = {row for _, row in waiting}
        changed: set[str] = set()
        while waiting:
            _, row = heapq.heappop(waiting)
            kept, bits = self._ask(row)
            if (kept, bits) == (self._kept[row], self._bits[row]):
                continue
            turned = (kept == row) != (self._kept[row] == row)
            self._kept[row], self._bits[row] = kept, bits
            changed.add(self._alive(row).image)
            for other in self._worse(row) if turned else ():
                if other not in queued:
                    queued.add(other)
                    heapq.heappush(waiting, (self._alive(other).rank, other))
        return changed

    def _ask(self, row: int) -> tuple[int, int]:
        """The rule for one row, all better ones being decided."""
        rank = self._alive(row).rank
        kept = [(bits, m.rank, other) for other, bits in self._neighbours(row) if self._kept[other] == other and (m := self._alive(other)).rank < rank]
        if not kept:
            return row, 0
        bits, _, other = min(kept)
        return other, bits

    def _worse(self, row: int) -> list[int]:
        rank = self._alive(row).rank
        return [other for other, _ in self._neighbours(row) if self._alive(other).rank > rank]

    def _neighbours(self, row: int) -> list[tuple[int, int]]:
        member = self._alive(row)
        return [(other, bits) for other, bits in self._within(member.hashes[: self._variants], self.distance) if other != row and self._members[other]]

    def _within(self, hashes: NDArray[np.uint64], distance: int) -> list[tuple[int, int]]:
        hits = self._search.within(hashes[None, :], distance)
        return list(zip(hits.row.tolist(), hits.distance.tolist(), strict=True))

    def _stack(self, members: Sequence[Member]) -> NDArray[np.uint64]:
        hashes = np.frombuffer(b"".join(m.packed for m in members), np.uint64)
        return hashes.reshape(len(members), len(SYMMETRIES))[:, : self._variants]

    def _alive(self, row: int) -> Member:
        member = self._members[row]
        assert member is not None
        return member

    def _name(self, row: int) -> str:
        return self._alive(row).image
