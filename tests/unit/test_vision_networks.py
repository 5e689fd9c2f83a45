"""Networks, their weights and preprocessing: the figures are the publishers', the failures name their cure."""

from __future__ import annotations

import hashlib
import io
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from cosmop_common.errors import RefusedImageError
from cosmop_vision.errors import UnknownNetworkError, WeightsChecksumError, WeightsUnavailableError
from cosmop_vision.networks import NETWORKS, Network, Weights, find_network
from cosmop_vision.preprocess import Preprocessing
from cosmop_vision.settings import VisionSettings
from cosmop_vision.weights import weights_file
from PIL import Image

DATA = b"the weights"
DIGEST = hashlib.sha256(DATA).hexdigest()


def here(tmp_path: Path, **values: object) -> VisionSettings:
    return VisionSettings(cache_dir=tmp_path / "cache", **values)


@pytest.mark.parametrize("name", [n.name for n in NETWORKS.values() if n.family == "torchvision"])
def test_figures_are_those_of_torchvisions_metadata(name: str) -> None:
    from cosmop_vision.torch_quirks import torchvision

    network, published = NETWORKS[name], torchvision.models.get_model_weights(name).DEFAULT
    rule = published.transforms()
    assert network.weights.url == published.url
    assert (network.size, network.resize) == (rule.crop_size[0], rule.resize_size[0])
    assert (list(network.mean), list(network.std)) == (rule.mean, rule.std)
    assert network.interpolation == rule.interpolation.value


def test_an_unknown_network_names_the_known_ones() -> None:
    with pytest.raises(UnknownNetworkError, match="efficientnet_lite0"):
        find_network("resnet51")


def test_weights_come_from_the_folder_that_is_named(tmp_path: Path) -> None:
    (tmp_path / "w.pth").write_bytes(DATA)
    weights = Weights("w.pth", DIGEST[:8], url="http://127.0.0.1:1/w.pth")
    assert weights_file(weights, here(tmp_path, weights_dir=tmp_path)) == tmp_path / "w.pth"


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "w.pth").write_bytes(DATA + b"!")
    with pytest.raises(WeightsChecksumError, match=DIGEST[:8]):
        weights_file(Weights("w.pth", DIGEST[:8]), here(tmp_path, weights_dir=tmp_path))


def test_a_failed_download_names_the_cures_and_leaves_nothing(tmp_path: Path) -> None:
    settings = here(tmp_path)
    with pytest.raises(WeightsUnavailableError, match=r"COSMOP_WEIGHTS_DIR.*COSMOP_WEIGHTS_MIRROR"):
        weights_file(Weights("w.pth", DIGEST, url="http://127.0.0.1:1/w.pth"), settings)
    assert list((settings.cache / "weights").iterdir()) == []


def test_a_mirror_serves_weights_once(tmp_path: Path) -> None:
    (tmp_path / "mirror").mkdir()
    (tmp_path / "mirror" / "w.pth").write_bytes(DATA)
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(SimpleHTTPRequestHandler, directory=str(tmp_path / "mirror")))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    settings = here(tmp_path, weights_mirror=f"http://127.0.0.1:{server.server_port}/")
    weights = Weights("w.pth", DIGEST, url="http://127.0.0.1:1/w.pth")
    first = weights_file(weights, settings)
    server.shutdown()
    server.server_close()
    assert first.read_bytes() == DATA
    assert weights_file(weights, settings) == first


def test_a_mirror_that_serves_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mirror").mkdir()
    (tmp_path / "mirror" / "w.pth").write_bytes(b"<html>not found</html>")
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(SimpleHTTPRequestHandler, directory=str(tmp_path / "mirror")))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    settings = here(tmp_path, weights_mirror=f"http://127.0.0.1:{server.server_port}")
    with pytest.raises(WeightsChecksumError):
        weights_file(Weights("w.pth", DIGEST), settings)
    server.shutdown()
    server.server_close()
    assert list((settings.cache / "weights").iterdir()) == []


def test_the_wheels_weights_are_installed_and_whole(tmp_path: Path) -> None:
    assert weights_file(find_network("efficientnet_lite0").weights, here(tmp_path)).name == "efficientnet-lite0-57934424.pth"


@pytest.mark.parametrize("size", [(640, 480), (333, 500), (100, 90)])
def test_the_crop_is_torchvisions(size: tuple[int, int]) -> None:
    from cosmop_vision.torch_quirks import torchvision

    image = Image.fromarray(np.random.default_rng(1).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))
    network: Network = find_network("resnet50")
    expected = torchvision.models.get_model_weights("resnet50").DEFAULT.transforms()(image).numpy()
    np.testing.assert_allclose(Preprocessing.of(network).array(image), expected, atol=2e-6)


def test_letterbox_keeps_the_whole_image_and_fills_with_the_mean() -> None:
    rule = Preprocessing.of(find_network("efficientnet_lite0"), size=64, fit="letterbox")
    array = rule.array(Image.new("RGB", (200, 100), (255, 255, 255)))
    assert array.shape == (3, 64, 64)
    assert np.abs(array[:, :16]).max() < 0.01
    assert np.abs(array[:, -16:]).max() < 0.01
    assert array[:, 16:48].min() > 0.9


def test_stretch_sees_every_corner() -> None:
    image = Image.new("RGB", (300, 100), (0, 0, 0))
    image.paste((255, 255, 255), (0, 0, 30, 100))
    array = Preprocessing.of(find_network("efficientnet_lite0"), size=64, fit="stretch").array(image)
    assert array[:, :, 0].min() > 0.9
    assert array[:, :, 20].max() < -0.9


def test_a_large_jpeg_decoded_small_gives_nearly_the_same(tmp_path: Path) -> None:
    gradient = np.add.outer(np.arange(1200), np.arange(1600)) % 512 // 2
    sink = io.BytesIO()
    Image.fromarray(np.stack([gradient] * 3, 2).astype(np.uint8)).save(sink, "JPEG", quality=95)
    rule = Preprocessing.of(find_network("resnet50"))
    full = rule.array(Image.open(io.BytesIO(sink.getvalue())).convert("RGB"))
    assert np.abs(rule.array_of_bytes(sink.getvalue()) - full).mean() < 0.02


def test_bytes_that_are_no_image_are_refused() -> None:
    with pytest.raises(RefusedImageError, match="HTML"):
        Preprocessing.of(find_network("resnet50")).array_of_bytes(b"<html>")
