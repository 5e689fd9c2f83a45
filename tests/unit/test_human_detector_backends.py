"""Detectors that are no heads: NanoDet's ONNX files and torchvision's COCO detectors."""

from __future__ import annotations

import csv
import hashlib
import io
from pathlib import Path

import numpy as np
import onnx
import pytest
from cosmop_common.errors import InvalidInputError, RefusedImageError
from cosmop_human_detector import coco
from cosmop_human_detector.coco import CocoDetector, coco_version
from cosmop_human_detector.default import default_model
from cosmop_human_detector.detectors import smoke_test
from cosmop_human_detector.errors import ModelFileError, SmokeTestError
from cosmop_human_detector.nanodet import THRESHOLD, NanoDet
from cosmop_human_detector.registry import onnx_version, shipped
from cosmop_human_detector.settings import Settings
from cosmop_vision.errors import WeightsUnavailableError
from cosmop_vision.networks import Weights
from cosmop_vision.settings import VisionSettings
from cosmop_vision.torch_quirks import non_maximum_suppression
from onnx import TensorProto, helper
from PIL import Image

REAL = Path(__file__).resolve().parents[3] / "shared" / "weights" / "nanodet_m.onnx"


def picture(colour: tuple[int, int, int], size: tuple[int, int] = (64, 64)) -> bytes:
    sink = io.BytesIO()
    Image.new("RGB", size, colour).save(sink, "PNG")
    return sink.getvalue()


def tiny(path: Path, classes: int = 80) -> Path:
    """Outputs shaped as NanoDet's, one cell: the score of class i is the sigmoid of channel i's maximum (0 is blue)."""
    nodes = [
        helper.make_node("GlobalMaxPool", ["images"], ["peak"]),
        helper.make_node("Reshape", ["peak", "flat"], ["row"]),
        helper.make_node("Pad", ["row", "pads"], ["wide"]),
        helper.make_node("Sigmoid", ["wide"], ["classes"]),
        helper.make_node("Identity", ["row"], ["boxes"]),
    ]
    constants = [
        helper.make_tensor("flat", TensorProto.INT64, [3], [1, 1, 3]),
        helper.make_tensor("pads", TensorProto.INT64, [6], [0, 0, 0, 0, 0, classes - 3]),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, 32, 32])],
        [helper.make_tensor_value_info("classes", TensorProto.FLOAT, [1, 1, classes]), helper.make_tensor_value_info("boxes", TensorProto.FLOAT, [1, 1, 3])],
        constants,
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    return path


def test_nanodet_scores_the_class_person_of_a_bgr_image(tmp_path: Path) -> None:
    detector = NanoDet(tiny(tmp_path / "tiny.onnx"))
    batch = np.stack([detector.prepare(picture((0, 0, 255))), detector.prepare(picture((255, 0, 0)))])
    blue, red = detector.scores(batch)
    assert blue == pytest.approx(1 / (1 + np.exp(-(255 - 103.53) / 57.375)), abs=1e-4)
    assert red == pytest.approx(1 / (1 + np.exp(103.53 / 57.375)), abs=1e-4)
    smoke_test(detector)


def test_nanodet_letterboxes_in_the_centre(tmp_path: Path) -> None:
    array = NanoDet(tiny(tmp_path / "tiny.onnx")).prepare(picture((255, 255, 255), (100, 50)))
    white = array[0] > 1
    assert white[8:24].all()
    assert not white[:7].any()
    assert not white[25:].any()


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="80 classes"):
        NanoDet(tiny(tmp_path / "tiny.onnx", classes=20))


def test_an_input_of_another_shape_or_no_network_at_all_is_refused_with_the_cure(tmp_path: Path) -> None:
    path = tiny(tmp_path / "tiny.onnx")
    model = onnx.load(path)
    model.graph.input[0].type.tensor_type.shape.dim[2].dim_value = 64
    onnx.save(model, path)
    with pytest.raises(ModelFileError, match="1 x 3 x side x side"):
        NanoDet(path)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(ModelFileError, match="fetch the file again"):
        NanoDet(path)


def test_nanodet_locates_people_in_shares_of_the_image(tmp_path: Path) -> None:
    """One cell of stride 32 whose person is blue and whose distances are one bin each, of 0 strides: a point in the middle of the input."""
    path = tiny(tmp_path / "tiny.onnx")
    model = onnx.load(path)
    model.graph.node[-1].CopyFrom(
        helper.make_node("Constant", [], ["boxes"], value=helper.make_tensor("v", TensorProto.FLOAT, [1, 1, 8], [0, 9, 0, 9, 9, 0, 9, 0]))
    )
    onnx.save(model, path)
    (box,) = NanoDet(path).people(Image.new("RGB", (100, 50), (0, 0, 255)), 0.5)
    near, far = 1 / (1 + np.exp(9)), 1 / (1 + np.exp(-9))
    assert (box.left, box.right) == (pytest.approx(max(0, 0.5 - far), abs=1e-6), pytest.approx(0.5 + near, abs=1e-6))
    assert (box.top, box.bottom) == (0, pytest.approx(0.5 + 2 * near, abs=1e-6))
    assert NanoDet(path).people(Image.new("RGB", (100, 50), (255, 0, 0)), 0.5) == []


def test_auto_takes_a_coco_detector_where_its_weights_are_and_the_head_where_not(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    wanted = Settings(human_detector="auto:ssdlite320_mobilenet_v3_large")
    none = VisionSettings(cache_dir=tmp_path, weights_mirror="http://127.0.0.1:1")
    assert default_model(wanted, none)[0] == shipped()[0]
    assert "the shipped head screens" in caplog.text
    data = b"stands for the weights"
    published = Weights("detector.pth", hashlib.sha256(data).hexdigest())
    (tmp_path / published.file).write_bytes(data)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(coco, "published", lambda _name: published)
        card, _ = default_model(wanted, VisionSettings(cache_dir=tmp_path, weights_dir=tmp_path))
    assert card.details["backend"] == "torchvision"


def test_the_onnx_setting_is_checked(tmp_path: Path) -> None:
    path = tiny(tmp_path / "tiny.onnx")
    card, files = default_model(Settings(human_detector=f"onnx:{path}"))
    assert files["model.onnx"] == path.read_bytes()
    assert card.threshold == 0.4
    with pytest.raises(ModelFileError, match="COSMOP_HUMAN_DETECTOR_SHA256"):
        onnx_version(path, "0" * 64, 0.4)
    with pytest.raises(InvalidInputError, match="cannot be read"):
        onnx_version(tmp_path / "none.onnx", "", 0.4)
    with pytest.raises(InvalidInputError, match="torchvision:<name>"):
        default_model(Settings(human_detector="yolo"))


def test_a_model_without_probabilities_fails_its_smoke_test() -> None:
    class Broken:
        def prepare(self, data: bytes) -> np.ndarray:
            return np.zeros(1, np.float32)

        def scores(self, batch: np.ndarray) -> np.ndarray:
            return np.full(len(batch), np.nan)

    with pytest.raises(SmokeTestError, match="not activated"):
        smoke_test(Broken())


def test_coco_weights_that_cannot_be_had_name_the_cure(tmp_path: Path) -> None:
    settings = VisionSettings(cache_dir=tmp_path, weights_mirror="http://127.0.0.1:1")
    with pytest.raises(WeightsUnavailableError, match="COSMOP_WEIGHTS_DIR"):
        CocoDetector("ssdlite320_mobilenet_v3_large", settings)
    with pytest.raises(InvalidInputError, match="ssdlite320_mobilenet_v3_large"):
        coco_version("yolo")


def test_a_coco_detector_scores_batches(tmp_path: Path) -> None:
    detector = CocoDetector("ssdlite320_mobilenet_v3_large", VisionSettings(cache_dir=tmp_path, device="cpu"), pretrained=False)
    smoke_test(detector)
    with pytest.raises(RefusedImageError):
        detector.prepare(b"no image")


def test_suppression_keeps_the_best_of_what_overlaps() -> None:
    import torch

    boxes = torch.tensor([[0, 0, 10, 10], [1, 1, 10, 10], [20, 20, 30, 30], [0, 0, 10, 5]], dtype=torch.float32)
    scores = torch.tensor([0.6, 0.9, 0.3, 0.2])
    # IoU of the first two 0.81; of the second and the last 36/95.
    assert non_maximum_suppression(boxes, scores, 0.5).tolist() == [1, 2, 3]
    assert non_maximum_suppression(boxes, scores, 0.3).tolist() == [1, 2]
    assert non_maximum_suppression(boxes[:0], scores[:0], 0.5).tolist() == []


@pytest.mark.photos
def test_the_published_nanodet_tells_people_on_real_photos(photos: Path) -> None:
    if not REAL.is_file():
        pytest.skip(f"no NanoDet file at {REAL}")
    with (photos / "labels.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    chosen = [row for row in rows if row["label"] == "human"][::60] + [row for row in rows if row["label"] == "no_human"][::80]
    detector = NanoDet(REAL)
    scores = detector.scores(np.stack([detector.prepare((photos / row["file"]).read_bytes()) for row in chosen]))
    right = (scores >= THRESHOLD) == np.array([row["label"] == "human" for row in chosen])
    assert right.mean() > 0.9
