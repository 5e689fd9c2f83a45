"""What every benchmark leaves behind."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from benchmarks import report


@pytest.mark.parametrize(("ours", "peer", "higher", "ratio"), [(30.0, 10.0, True, 3.0), (2.0, 10.0, False, 5.0)])
def test_the_ratio_is_above_one_where_ours_is_better(monkeypatch, tmp_path, capsys, ours, peer, higher, ratio):
    monkeypatch.setattr(report, "OUT", tmp_path / "out")
    path = report.write("some_name", ours, "peer", "1.2", peer, "img/s", 7, higher_is_better=higher, table=[1, 2])
    result = json.loads(path.read_text())
    assert path.name == "some_name.json"
    assert result["ratio"] == ratio
    assert result["peer"] == {"name": "peer", "version": "1.2", "value": peer}
    assert result["table"] == [1, 2]
    assert {"date", "machine", "n", "unit"} <= set(result)
    assert capsys.readouterr().out.splitlines()[-1].startswith(f"ratio {ratio:g} (ours {ours:g} img/s, peer 1.2 {peer:g}")


@pytest.mark.parametrize("value", [0.0, float("nan"), float("inf"), -1.0])
def test_no_ratio_is_made_up(monkeypatch, tmp_path, value):
    monkeypatch.setattr(report, "OUT", tmp_path)
    with pytest.raises(ValueError, match="positive"):
        report.write("x", value, "peer", "1", 1.0, "s", 1)
