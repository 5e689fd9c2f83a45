"""Which queries of a run are done: their source has no more, and all their downloads have ended."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping

from cosmop_common.names import sha256_hex

_PREFIX = "query-"


class Queries:
    """Keeps track, and tells when a query is done, so that an interrupted run does not ask for it again."""

    def __init__(self, earlier: Mapping[str, str], keep: Callable[[str, str], None]) -> None:
        """Starts from what an ``earlier`` attempt kept; ``keep`` keeps a key and a value with the run."""
        self._earlier = earlier
        self._keep = keep
        self._open: Counter[str] = Counter()
        self._exhausted: set[str] = set()

    def done(self, query: str) -> bool:
        """Whether an earlier attempt finished it."""
        return _key(query) in self._earlier

    @property
    def any_done(self) -> bool:
        """Whether an earlier attempt finished any."""
        return any(key.startswith(_PREFIX) for key in self._earlier)

    def begin(self, query: str) -> None:
        """One more download of the query is on its way."""
        self._open[query] += 1

    def settle(self, query: str) -> None:
        """One has ended, well or not."""
        self._open[query] -= 1
        self._tell(query)

    def exhaust(self, query: str) -> None:
        """The source has no more of it."""
        self._exhausted.add(query)
        self._tell(query)

    def _tell(self, query: str) -> None:
        if query in self._exhausted and not self._open[query]:
            self._keep(_key(query), query)


def _key(query: str) -> str:
    return f"{_PREFIX}{sha256_hex(query.encode())[:16]}"
