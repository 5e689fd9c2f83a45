"""``cosmop up`` and ``cosmop down``: a supervisor that stays."""

from __future__ import annotations

from pathlib import Path

import pytest
from cosmop_local import launch
from cosmop_local.guard import marked
from cosmop_local.home import Home


def test_a_system_that_cannot_start_says_why(tmp_path: Path) -> None:
    with pytest.raises(launch.SystemStartError, match=r"supervisor\.log says why; its last line: error: port 1048576, asked for nats, cannot be had"):
        launch.start(tmp_path, {"nats": 1 << 20})
    assert not launch.stop(tmp_path)
    assert marked(Home(tmp_path).secrets()["instance"]) == []
