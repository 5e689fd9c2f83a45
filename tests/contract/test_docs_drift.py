"""What is generated is what is committed: the stubs, and the page about collections."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("tool", ["generate_protos.py", "document_collections.py"])
def test_what_is_committed_is_what_is_generated(tool: str) -> None:
    done = subprocess.run([sys.executable, ROOT / "tools" / tool, "--check"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_contracts_are_linted() -> None:
    done = subprocess.run([Path(sys.executable).parent / "buf", "lint", ROOT / "proto"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_broken_contract_is_noticed(tmp_path: Path) -> None:
    """``buf breaking`` against what is here must refuse a field whose type changes: the check itself works."""
    import shutil

    changed = tmp_path / "proto"
    shutil.copytree(ROOT / "proto", changed)
    facts = changed / "cosmop" / "v1" / "facts.proto"
    facts.write_text(facts.read_text().replace("uint64 size = 4;", "string size = 4;"))
    buf = Path(sys.executable).parent / "buf"
    done = subprocess.run([buf, "breaking", changed, "--against", ROOT / "proto"], capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "size" in done.stdout
    same = subprocess.run([buf, "breaking", ROOT / "proto", "--against", ROOT / "proto"], capture_output=True, text=True, check=False)
    assert same.returncode == 0, same.stdout + same.stderr
