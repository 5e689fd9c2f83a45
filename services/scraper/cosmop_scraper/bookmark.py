"""Where in the pages of a search a run goes on after a restart: pages that cost money or a day's allowance are not asked for again."""

from __future__ import annotations

from collections import deque

from cosmop_common.names import sha256_hex

from cosmop_scraper.candidate import Candidate, SourceContext

_PREFIX = "page-"


class Bookmark:
    """Follows one query through its pages.

    Candidates are on their way for a while after they have been yielded, and are lost with the process. So the page that
    is remembered is the newest one before which all have come to their end.
    """

    def __init__(self, context: SourceContext, query: str) -> None:
        self._context = context
        self._query = query
        self._key = f"{_PREFIX}{sha256_hex(query.encode())[:16]}"
        self._yielded = 0
        #: Each page's token and how many candidates had been yielded before it.
        self._pages: deque[tuple[str, int]] = deque()
        #: Where an earlier attempt may be gone on with; empty at the beginning.
        self.page = context.recall(self._key)

    def turn(self, token: str) -> None:
        """A page begins."""
        self._pages.append((token, self._yielded))
        ended = self._context.ended(self._query)
        passed = ""
        while self._pages and self._pages[0][1] <= ended:
            passed = self._pages.popleft()[0]
        if passed:
            self._context.remember(self._key, passed)

    def saw(self, found: Candidate) -> Candidate:
        """A candidate of the page that is about to be yielded; returns it."""
        self._yielded += 1
        return found

    def forget(self) -> None:
        """The remembered page is gone at the source."""
        self.page = ""
        self._context.remember(self._key, "")
