"""The README's example of asking the endpoint, run as it is printed there."""

from __future__ import annotations

import contextlib
import io
import re
import textwrap
from pathlib import Path

import pytest
from classifier_world import drawing, serving, tiny_bank, tiny_model
from cosmop_common.bus import Bus
from cosmop_common.models_kv import ActiveModels
from cosmop_common.store import Store

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("readme", ["README.md", "services/classifier/README.md"])
async def test_the_printed_example_works(bus: Bus, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, readme: str) -> None:
    for name, head in (("immigration-binary", None), ("immigration-one-class", tiny_bank())):
        await tiny_model(store, tmp_path, name, head=head)
        await ActiveModels(bus).activate(name, "v1")
    (tmp_path / "photo.jpg").write_bytes(drawing(1, positive=True))
    monkeypatch.chdir(tmp_path)
    (example,) = [code for code in re.findall(r"```python\n(.*?)```", (ROOT / readme).read_text(), re.DOTALL) if "ClassifierClient" in code]
    assert len(example.strip().splitlines()) <= 6
    async with serving(bus, store, tmp_path) as served:
        await served.serves("immigration-one-class", "v1")
        # Only the address is another one, and the async lines stand in a function.
        code = example.replace("127.0.0.1:50051", f"127.0.0.1:{served.port}")
        names: dict[str, object] = {}
        exec("async def example():\n" + textwrap.indent(code, "    "), names)
        with contextlib.redirect_stdout(io.StringIO()) as said:
            await names["example"]()
    label, probability, uncertain, *_ = said.getvalue().split()
    assert label in {"disc", "stripe"}
    assert 0 <= float(probability) <= 1
    assert uncertain in {"True", "False"}
