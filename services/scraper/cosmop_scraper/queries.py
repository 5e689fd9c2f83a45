"""Which queries of a run are done: their source has no more, and all their downloads have ended."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from cosmop_common.names import sha256_hex

_PREFIX = "query-"


@dataclass
class _Progress:
    #: Candidates met in this attempt, and which of them have not come to their end.
    met: int = 0
    open: dict[int, None] = field(default_factory=dict)


class Queries:
    """Keeps track, and tells when a query is done, so that an interrupted run does not ask for it again."""

    def __init__(self, earlier: Mapping[str, str], keep: Callable[[str, str], None]) -> None:
        """Starts from what an ``earlier`` attempt kept; ``keep`` keeps a key and a value with the run."""
        self._earlier = earlier
        self._keep = keep
        self._progress: dict[str, _Progress] = {}
        self._exhausted: set[str] = set()

    def done(self, query: str) -> bool:
        """Whether an earlier attempt finished it."""
        return _key(query) in self._earlier

    @property
    def any_done(self) -> bool:
        """Whether an earlier attempt finished any."""
        return any(key.startswith(_PREFIX) for key in self._earlier)

    def begin(self, query: str) -> int:
        """One more candidate of the query is met; returns its number."""
        progress = self._progress.setdefault(query, _Progress())
        number, progress.met = progress.met, progress.met + 1
        progress.open[number] = None
        return number

    def settle(self, query: str, number: int) -> None:
        """One has come to its end, well or not."""
        self._progress[query].open.pop(number, None)
        self._tell(query)

    def ended(self, query: str) -> int:
        """How many of the first candidates have all come to their end."""
        progress = self._progress.get(query, _Progress())
        return next(iter(progress.open), progress.met)

    def exhaust(self, query: str) -> None:
        """The source has no more of it."""
        self._exhausted.add(query)
        self._tell(query)

    def _tell(self, query: str) -> None:
        if query in self._exhausted and not self._progress.get(query, _Progress()).open:
            self._keep(_key(query), query)


def _key(query: str) -> str:
    return f"{_PREFIX}{sha256_hex(query.encode())[:16]}"
