"""The fast runtime: equal to torch, exported once, and torch stays out of the process that serves."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from cosmop_common.errors import InvalidInputError
from cosmop_vision.errors import DeviceError, ExportError
from cosmop_vision.export import exported, onnx_path
from cosmop_vision.networks import find_network
from cosmop_vision.onnx_session import OnnxSession, providers
from cosmop_vision.runtime import Extractor, wants_cuda
from cosmop_vision.settings import VisionSettings


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> VisionSettings:
    return VisionSettings(cache_dir=tmp_path_factory.mktemp("cache"), inference_threads=1, device="cpu")


@pytest.mark.parametrize("size", [224, 320])
def test_onnx_equals_torch(settings: VisionSettings, size: int) -> None:
    images = np.random.default_rng(0).normal(size=(2, 3, size, size)).astype(np.float32)
    fast = Extractor.create("efficientnet_lite0", ("pooled", "map"), "onnx", settings).run(images)
    reference = Extractor.create("efficientnet_lite0", ("pooled", "map"), "torch", settings).run(images)
    assert fast["pooled"].shape == (2, 1280)
    assert fast["map"].shape == (2, 1280, size // 32, size // 32)
    for name, expected in reference.items():
        assert expected.max() > 0.5
        np.testing.assert_allclose(fast[name], expected, atol=1e-4)


def test_serving_from_the_cache_loads_no_torch(settings: VisionSettings) -> None:
    exported("efficientnet_lite0", settings)
    code = """
import sys, numpy as np
from cosmop_vision.runtime import Extractor
features = Extractor.create("efficientnet_lite0", runtime="onnx").features(np.zeros((1, 3, 224, 224), np.float32))
assert features.shape == (1, 1280)
print("torch" in sys.modules)
"""
    environment = {"COSMOP_CACHE_DIR": str(settings.cache_dir), "PATH": "/usr/bin"}
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert child.stdout.strip() == "False"


def test_the_export_is_made_once(settings: VisionSettings) -> None:
    path = exported("efficientnet_lite0", settings)
    made = path.stat().st_mtime_ns
    assert exported("efficientnet_lite0", settings) == path == onnx_path(find_network("efficientnet_lite0"), settings)
    assert path.stat().st_mtime_ns == made
    assert list(path.parent.iterdir()) == [path]


def test_batches_of_any_size_give_the_same_rows(settings: VisionSettings) -> None:
    extractor = Extractor.create("efficientnet_lite0", runtime="onnx", settings=settings)
    images = np.random.default_rng(1).normal(size=(3, 3, 64, 96)).astype(np.float32)
    together = extractor.features(images)
    alone = np.concatenate([extractor.features(images[i : i + 1]) for i in range(3)])
    np.testing.assert_allclose(together, alone, atol=1e-4)


def test_sides_must_fit_the_stride(settings: VisionSettings) -> None:
    extractor = Extractor.create("efficientnet_lite0", runtime="onnx", settings=settings)
    with pytest.raises(InvalidInputError, match="multiples of 32"):
        extractor.features(np.zeros((1, 3, 100, 100), np.float32))


def test_a_damaged_onnx_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "x.onnx").write_bytes(b"no network")
    with pytest.raises(ExportError, match=r"x\.onnx"):
        OnnxSession(tmp_path / "x.onnx")


def test_cuda_is_never_silently_replaced() -> None:
    import torch

    if torch.cuda.is_available():
        assert wants_cuda(VisionSettings(device="cuda"))
    else:
        with pytest.raises(DeviceError, match="COSMOP_DEVICE"):
            wants_cuda(VisionSettings(device="cuda"))


@pytest.mark.parametrize("name", ["resnet50", "convnext_tiny"])
def test_torchvision_networks_build_and_have_the_features_they_say(name: str) -> None:
    import torch
    from cosmop_vision.modules import load_backbone

    with torch.inference_mode():
        pooled, feature_map = load_backbone(name, pretrained=False)(torch.zeros(1, 3, 64, 64))
    assert pooled.shape == (1, find_network(name).features)
    assert feature_map.shape == (1, find_network(name).features, 2, 2)


def test_a_cuda_build_of_onnx_runtime_is_used_unless_the_cpu_is_asked_for() -> None:
    build = ["TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"]
    chosen = providers(VisionSettings(device="auto"), build)
    assert chosen == [("CUDAExecutionProvider", {"use_tf32": "0"}), "CPUExecutionProvider"]
    assert providers(VisionSettings(device="cpu"), build) == ["CPUExecutionProvider"]
    assert providers(VisionSettings(device="auto"), ["AzureExecutionProvider", "CPUExecutionProvider"]) == ["CPUExecutionProvider"]
