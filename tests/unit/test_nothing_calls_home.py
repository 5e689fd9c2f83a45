"""ONNX Runtime reports to its maker from 1.29 on; in our processes it must not, whichever of our modules loads it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

#: Each loads ONNX Runtime its own way, as the processes do: a network run, an int8 copy made, faces found.
LOADERS = ("cosmop_vision.onnx_session", "cosmop_classifier.quantise", "cosmop_console.faces")
SESSION = """
import importlib, sys
importlib.import_module(sys.argv[1])
import onnx, onnxruntime
from onnx import TensorProto, helper
value = lambda name: helper.make_tensor_value_info(name, TensorProto.FLOAT, [1])
graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", [value("x")], [value("y")])
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
"""


@pytest.mark.parametrize("loader", LOADERS)
def test_onnx_runtime_keeps_no_identifier_and_no_queue_of_reports(tmp_path: Path, loader: str) -> None:
    # Without the mark of a CI, which by itself keeps it silent.
    environment = {k: v for k, v in os.environ.items() if k not in {"CI", "ORT_DISABLE_TELEMETRY", "GITHUB_ACTIONS"}}
    # A proxy that nobody answers: what is tested must not become a report when it fails.
    away = {"HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path), "XDG_DATA_HOME": str(tmp_path), "https_proxy": "http://127.0.0.1:9"}
    done = subprocess.run([sys.executable, "-c", SESSION, loader], env=environment | away, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "telemetry" not in done.stderr
    left = [str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if "onnxruntime" in p.name.lower() or "Microsoft" in p.name]
    assert left == []
