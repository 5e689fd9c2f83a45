"""What a scrape looks like while it works: a line for its source and one for each host. Pure: runs in, text and tables out.

The counts come from the run's stage ``scrape``: words such as ``new`` are of all hosts, ``example.org|new`` is of one.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field

from cosmop_common.pb.cosmop.v1 import runs_pb2
from rich.console import Group
from rich.table import Table
from rich.text import Text

STAGE = "scrape"
_COLUMNS = ("found", "known", "fetched", "new", "duplicate", "refused", "failed", "images/s", "MB")
#: Rates are of the last so many seconds.
_WINDOW = 15.0


@dataclass(frozen=True)
class Line:
    """The counts of one host, or of all."""

    name: str
    counts: Mapping[str, int]
    rate: float = 0.0

    def cells(self) -> tuple[str, ...]:
        """One text for each column."""
        numbers = [f"{self.counts.get(word, 0):,}" for word in ("found", "known", "fetched", "new", "duplicate")]
        return (*numbers, _sum(self.counts, "refused_"), _sum(self.counts, "failed_"), f"{self.rate:.1f}", f"{self.counts.get('bytes', 0) / 1e6:,.1f}")

    @property
    def reasons(self) -> str:
        """What was refused and what failed, by reason: "too_small 3, http_status 1"."""
        found = [(n, word.partition("_")[2]) for word, n in self.counts.items() if n and word.startswith(("refused_", "failed_"))]
        return ", ".join(f"{word} {n:,}" for n, word in sorted(found, reverse=True))


@dataclass
class Speed:
    """Fetched and new images per second, by host, over the last seconds."""

    _samples: deque[tuple[float, dict[str, int]]] = field(default_factory=deque)

    def add(self, counts: Mapping[str, int], now: float | None = None) -> None:
        """Notes the counts as they stand."""
        now = time.monotonic() if now is None else now
        self._samples.append((now, dict(counts)))
        while len(self._samples) > 2 and self._samples[1][0] <= now - _WINDOW:  # noqa: PLR2004 - two samples make a rate
            self._samples.popleft()

    def of(self, word: str) -> float:
        """Growth of a count per second."""
        if len(self._samples) < 2 or (took := self._samples[-1][0] - self._samples[0][0]) <= 0:  # noqa: PLR2004
            return 0.0
        return max(0, self._samples[-1][1].get(word, 0) - self._samples[0][1].get(word, 0)) / took


def find_stage(run: runs_pb2.Run) -> runs_pb2.Stage:
    """The scrape's stage; an empty one before it has begun."""
    return next((s for s in run.stages if s.name == STAGE), runs_pb2.Stage(name=STAGE))


def lines(run: runs_pb2.Run, source: str, speed: Speed) -> list[Line]:
    """All first, named after the source; then the hosts, the busiest first."""
    counts = find_stage(run).counts
    hosts: dict[str, dict[str, int]] = {}
    total: dict[str, int] = {}
    for key, number in counts.items():
        host, bar, word = key.partition("|")
        if bar:
            hosts.setdefault(host, {})[word] = number
        else:
            total[key] = number
    found = [Line(host, words, speed.of(f"{host}|fetched")) for host, words in hosts.items()]
    found.sort(key=lambda line: (-line.counts.get("fetched", 0), -line.counts.get("found", 0), line.name))
    return [Line(source, total, speed.of("fetched")), *found]


def estimate(run: runs_pb2.Run, speed: Speed) -> str:
    """How long it will take: until so many new images are there as are wanted, or until what has been found is fetched."""
    stage = find_stage(run)
    if not stage.HasField("started"):
        return "waits for a scraper to be free"
    if stage.HasField("finished") and stage.state != runs_pb2.RUN_STATE_RUNNING:
        return f"{_minutes((stage.finished.ToNanoseconds() - stage.started.ToNanoseconds()) / 1e9)} in all"
    took = f"{_minutes(time.time() - stage.started.ToNanoseconds() / 1e9)} so far"
    new, rate = stage.counts.get("new", 0), speed.of("new")
    if stage.total:
        left = f"about {_minutes((stage.total - new) / rate)} left" if rate > 0 else took
        return f"{new:,} of {stage.total:,}, {left}"
    waiting = stage.counts.get("found", 0) - sum(stage.counts.get(word, 0) for word in ("known", "fetched", "failed"))
    if waiting > 0 and (pace := speed.of("fetched")) > 0:
        return f"{took}, about {_minutes(waiting / pace)} for what is found"
    return took


def table(run: runs_pb2.Run, source: str, speed: Speed, *, hosts: int) -> Group:
    """The live picture on a terminal; at most so many hosts."""
    grid = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    grid.add_column("", overflow="ellipsis", no_wrap=True)
    for name in _COLUMNS:
        grid.add_column(name, justify="right", no_wrap=True)
    grid.add_column("refused and failed by reason", overflow="ellipsis", no_wrap=True)
    shown = lines(run, source, speed)
    for i, line in enumerate(shown[: hosts + 1]):
        grid.add_row(line.name if i == 0 else f"  {line.name}", *line.cells(), line.reasons, style="bold" if i == 0 else "")
    if len(shown) > hosts + 1:
        grid.add_row(f"  … and {len(shown) - hosts - 1} more hosts")
    return Group(grid, Text(_status(run, speed), style="dim"))


def plain(line: Line) -> str:
    """A line for a log: what the columns say, in words."""
    words = ", ".join(f"{name} {cell}" for name, cell in zip(_COLUMNS, line.cells(), strict=True))
    return f"{line.name}: {words}" + (f" ({line.reasons})" if line.reasons else "")


def status_line(run: runs_pb2.Run, source: str, speed: Speed) -> str:
    """All hosts in one line, with the estimate."""
    return f"{plain(lines(run, source, speed)[0])}; {_status(run, speed)}"


def _status(run: runs_pb2.Run, speed: Speed) -> str:
    stage = find_stage(run)
    cost = stage.result.get("estimate", "")
    # The stage's own message begins with the source and its rate, which stand in the columns.
    message = stage.message.partition("; ")[2] if " images/s" in stage.message else stage.message
    return " · ".join(part for part in (estimate(run, speed), cost, message or run.error) if part)


def _sum(counts: Mapping[str, int], prefix: str) -> str:
    return f"{sum(n for word, n in counts.items() if word.startswith(prefix)):,}"


def _minutes(seconds: float) -> str:
    if seconds < 90:  # noqa: PLR2004
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"  # noqa: PLR2004
