"""Weights of one's own, by path and sha256: for machines without a network, and for networks trained elsewhere."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from cosmop_vision.errors import WeightsChecksumError, WeightsFormatError, WeightsSettingError, WeightsUnavailableError
from cosmop_vision.modules import load_backbone
from cosmop_vision.networks import NETWORKS, find_network
from safetensors.torch import save_file
from torch import nn

NAME = "efficientnet_b0"


def named(monkeypatch: pytest.MonkeyPatch, path: Path, sha256: str = "") -> None:
    sha256 = sha256 or (hashlib.sha256(path.read_bytes()).hexdigest() if path.exists() else "0" * 64)
    monkeypatch.setenv("COSMOP_WEIGHTS_FILES", json.dumps({NAME: f"{path}#{sha256}"}))


def fresh() -> nn.Module:
    from cosmop_vision.torch_quirks import torchvision

    torch.manual_seed(3)
    module: nn.Module = torchvision.models.get_model(NAME, weights=None)
    return module.eval()


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_a_network_runs_on_the_file_that_is_named(suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network, path = fresh(), tmp_path / f"mine{suffix}"
    save_file(network.state_dict(), path) if suffix == ".safetensors" else torch.save(network.state_dict(), path)
    named(monkeypatch, path)
    assert find_network(NAME).weights.sha256 != NETWORKS[NAME].weights.sha256, "models made on other weights have other versions"
    pixels = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        pooled, _ = load_backbone(NAME)(pixels)
        np.testing.assert_allclose(pooled, network.features(pixels).mean((2, 3)), rtol=1e-4, atol=1e-5)


def test_what_is_wrong_with_the_setting_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "mine.pth"
    named(monkeypatch, path)
    with pytest.raises(WeightsUnavailableError, match=r"COSMOP_WEIGHTS_FILES names .*mine\.pth, which is no file here"):
        load_backbone(NAME)
    path.write_bytes(b"other weights")
    with pytest.raises(WeightsChecksumError, match="correct COSMOP_WEIGHTS_FILES"):
        load_backbone(NAME)
    monkeypatch.setenv("COSMOP_WEIGHTS_FILES", json.dumps({NAME: str(path)}))
    with pytest.raises(WeightsSettingError, match="expected <path>#<sha256"):
        find_network(NAME)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_a_file_of_something_else_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "mine.safetensors"
    save_file({"features.0.0.weight": torch.zeros(3)}, path)
    named(monkeypatch, path)
    with pytest.raises(WeightsFormatError, match="does not hold the weights of efficientnet_b0"):
        load_backbone(NAME)
    pickled = tmp_path / "mine.pth"
    pickled.write_bytes(b"\x80\x04cos\nsystem\n(S'true'\ntR.")
    named(monkeypatch, pickled)
    with pytest.raises(WeightsFormatError, match="cannot be read as weights"):
        load_backbone(NAME)
