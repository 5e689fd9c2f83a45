"""What ``cosmop scrape`` shows: a line for the source and one for each host, on a terminal and in a log."""

from __future__ import annotations

import io
import re
import time

import pytest
from cosmop_common.pb.cosmop.v1 import runs_pb2
from cosmop_console.cli import scrape
from cosmop_console.cli.scrape_view import Speed, estimate, lines, plain, status_line, table
from rich.console import Console


def run(total: int = 0, state: runs_pb2.RunState.ValueType = runs_pb2.RUN_STATE_RUNNING, **more: int) -> runs_pb2.Run:
    counts = {
        "found": 90, "known": 5, "fetched": 60, "new": 40, "duplicate": 12, "refused_too_small": 6, "refused_robots": 2, "failed": 3, "failed_timeout": 3,
        "bytes": 2_500_000, "a.example|found": 60, "a.example|fetched": 50, "a.example|refused_too_small": 6, "b.example|fetched": 10, "b.example|failed_timeout": 3,
    }  # fmt: skip
    stage = runs_pb2.Stage(name="scrape", state=state, total=total, message="web: 4.0 images/s; pauses for the stages behind it", counts=counts | more)
    stage.started.FromNanoseconds(int((time.time() - 30) * 1e9))
    return runs_pb2.Run(id="r", state=runs_pb2.RUN_STATE_RUNNING, stages=[stage])


def moving(new_per_second: float = 2.0) -> Speed:
    speed = Speed()
    speed.add({"new": 20, "fetched": 40, "a.example|fetched": 30}, now=0.0)
    speed.add({"new": int(20 + 10 * new_per_second), "fetched": 60, "a.example|fetched": 50}, now=10.0)
    return speed


def test_a_line_for_the_source_and_for_each_host() -> None:
    total, first, second = lines(run(), "web", moving())
    assert (total.name, first.name, second.name) == ("web", "a.example", "b.example")
    assert total.cells() == ("90", "5", "60", "40", "12", "8", "3", "2.0", "2.5")
    assert total.reasons == "too_small 6, timeout 3, robots 2"
    assert first.cells()[0] == "60"
    assert first.rate == 2.0
    assert second.reasons == "timeout 3"


def test_the_estimate_is_of_what_is_wanted_or_found() -> None:
    assert estimate(run(total=100), moving()) == "40 of 100, about 30 s left"
    assert estimate(run(total=100), Speed()).startswith("40 of 100, 30 s so far")
    assert estimate(run(), moving()) == "30 s so far, about 11 s for what is found"
    assert estimate(runs_pb2.Run(), Speed()) == "waits for a scraper to be free"


def test_rates_are_of_the_last_seconds() -> None:
    speed = Speed()
    for second in range(100):
        speed.add({"new": 100 * second if second < 50 else 5000}, now=float(second))
    assert speed.of("new") == 0.0


def test_a_log_gets_words_and_a_terminal_a_table_that_fits() -> None:
    text = status_line(run(), "web", moving())
    assert text.startswith("web: found 90, known 5, fetched 60, new 40, duplicate 12, refused 8, failed 3, images/s 2.0, MB 2.5 (too_small 6")
    assert text.endswith("pauses for the stages behind it")
    assert "a.example: " in plain(lines(run(), "web", moving())[1])
    many = run(**{f"host-{i}|fetched": i for i in range(20)})
    sink = io.StringIO()
    Console(file=sink, width=150, height=12).print(table(many, "web", moving(), hosts=5))
    shown = sink.getvalue().splitlines()
    assert len(shown) == 9
    assert "17 more hosts" in shown[7]
    assert "pauses for the stages" in shown[8]


def test_a_log_gets_a_line_every_few_seconds_and_none_at_the_end(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(scrape.time, "monotonic", lambda: now)
    shown = scrape.Lines("web", Speed())
    for seconds in (0, 1, 5.5, 1):
        now += seconds
        shown.show(run())
    now += 6
    shown.show(runs_pb2.Run(id="r", state=runs_pb2.RUN_STATE_SUCCEEDED))
    said = capsys.readouterr().out.splitlines()
    assert len(said) == 2
    assert all(line.startswith("web: found 90") and re.search(r"; 3\d s so far", line) for line in said)
