"""The live counts of a scrape: of all, and of each host, as a run's stage carries them."""

from __future__ import annotations

import threading
import time
from collections import Counter

#: Hosts that are counted by name; all further ones are "other hosts", so that a run's state stays small.
_HOSTS = 30
OTHER = "other hosts"


class Tally:
    """Counts by word, and by host and word. Words: found, fetched, new, duplicate, erased, refused_<reason>, failed_<why>, bytes."""

    def __init__(self, before: dict[str, int] | None = None) -> None:
        """Goes on from the counts of an earlier attempt, but for what is found again: the source starts anew."""
        self._counts = Counter({key: n for key, n in (before or {}).items() if key.rpartition("|")[2] not in {"found", "known"}})
        self._hosts = {key.partition("|")[0] for key in self._counts if "|" in key} - {OTHER}
        self._lock = threading.Lock()
        self._started = time.monotonic()
        self._fetched_before = self._counts["fetched"]

    def add(self, host: str, **words: int) -> None:
        """Adds to the counts of all and of a host."""
        with self._lock:
            if host not in self._hosts and len(self._hosts) < _HOSTS:
                self._hosts.add(host)
            shown = host if host in self._hosts else OTHER
            for word, number in words.items():
                self._counts[word] += number
                self._counts[f"{shown}|{word}"] += number

    def __getitem__(self, word: str) -> int:
        """A count over all hosts."""
        return self._counts[word]

    def snapshot(self) -> dict[str, int]:
        """All counts: "new", and "example.org|new"."""
        with self._lock:
            return dict(self._counts)

    def rate(self) -> float:
        """Completed downloads per second of this attempt."""
        return (self._counts["fetched"] - self._fetched_before) / max(time.monotonic() - self._started, 1e-6)
