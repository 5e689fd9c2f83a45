"""What an evaluation stores beside the headline figures: curves, reliability, slices, ranked mistakes."""

from __future__ import annotations

import numpy as np
import pytest
from cosmop_classifier.curves import POINTS, pr_points, reliability_of
from cosmop_classifier.evaluation import evaluate, groups_parted
from cosmop_classifier.slices import slices
from cosmop_classifier.traits import Traits, look
from cosmop_common.datasets import ManifestRow
from cosmop_common.model_evaluation import SplitReport
from PIL import Image
from sklearn.metrics import brier_score_loss, precision_recall_curve

RNG = np.random.default_rng(0)
TRUTH = RNG.random(600) < 0.4
PROBABILITY = np.clip(0.5 + 0.22 * (TRUTH - 0.5) + RNG.normal(0, 0.2, 600), 0, 1)


def row(place: int, label: str = "disc", group: str = "", width: int = 300, height: int = 200, split: str = "test", labellers: int = 1) -> ManifestRow:
    return ManifestRow(f"{place:064x}", label, split, group or str(place), width, height, labellers)


def test_pr_points_lie_on_scikit_learns_curve_within_their_intervals() -> None:
    points = pr_points(TRUTH, PROBABILITY)
    precision, recall, thresholds = precision_recall_curve(TRUTH, PROBABILITY)
    places = np.searchsorted(thresholds, [p.threshold for p in points])
    assert len(points) == POINTS
    np.testing.assert_allclose([p.precision for p in points], precision[places])
    np.testing.assert_allclose([p.recall for p in points], recall[places])
    assert points[-1].recall == 1.0
    for point in points[5:]:
        assert point.precision_interval[0] <= point.precision <= point.precision_interval[1]
        assert point.recall_interval[0] <= point.recall <= point.recall_interval[1]


def test_a_curve_of_copies_is_as_unsure_as_of_one_each() -> None:
    once = pr_points(TRUTH[:80], PROBABILITY[:80])
    copies = pr_points(np.tile(TRUTH[:80], 5), np.tile(PROBABILITY[:80], 5), groups=[str(i % 80) for i in range(400)])
    widths = [np.mean([p.recall_interval[1] - p.recall_interval[0] for p in c]) for c in (once, copies)]
    assert widths[1] == pytest.approx(widths[0], rel=0.05)


def test_reliability_tells_a_calibrated_classifier_from_an_overconfident_one() -> None:
    p = RNG.random(4000)
    truth = RNG.random(4000) < p
    honest, loud = reliability_of(truth, p), reliability_of(truth, np.clip(1.6 * (p - 0.5) + 0.5, 0, 1))
    assert honest.expected_calibration_error.value < 0.03
    assert loud.expected_calibration_error.value > 0.08
    assert loud.expected_calibration_error.interval[0] > honest.expected_calibration_error.interval[1]
    assert honest.brier.value == pytest.approx(brier_score_loss(truth, p))
    assert sum(b.images for b in honest.bins) == 4000
    for b in honest.bins:
        assert b.low <= b.probability <= b.high
        assert b.positive.interval[0] <= b.positive.value <= b.positive.interval[1]


def test_mistakes_are_ranked_worst_first_and_counted_by_the_matrix() -> None:
    rows = [row(i, "disc" if i < 4 else "stripe") for i in range(8)]
    score = np.array([0.9, 0.1, 0.45, 0.8, 0.2, 0.95, 0.6, 0.3])
    report = evaluate(rows, "disc", score, 0.5).report
    assert [m.image for m in report.false_negatives] == [rows[1].image, rows[2].image]
    assert [m.image for m in report.false_positives] == [rows[5].image, rows[6].image]
    assert [m.margin for m in report.false_positives] == pytest.approx([0.45, 0.1])
    assert report.confusion == {"tp": 2, "fn": 2, "fp": 2, "tn": 2}
    assert report.reliability is None
    assert SplitReport.model_validate_json(report.model_dump_json()) == report


def test_a_split_without_a_class_or_an_image_is_reported_as_such() -> None:
    report = evaluate([row(i) for i in range(5)], "disc", np.linspace(0, 1, 5), 0.5, probabilities=True).report
    assert report.metrics["auroc"].value is None
    assert "no negative image" in report.warnings[0]
    empty = evaluate([], "disc", np.zeros(0), 0.5, probabilities=True).report
    assert (empty.images, empty.pr_curve, empty.reliability, empty.slices) == (0, [], None, [])


def test_slices_tell_what_images_have_in_common() -> None:
    rows = [row(0, width=500, height=450, group="g"), row(1, width=100, height=300, group="g"), row(2, labellers=3)]
    traits = {
        rows[0].image: Traits(chroma=0, brightness=20, source="folder", sightings=1),
        rows[1].image: Traits(chroma=40, brightness=220, source="web", sightings=7),
    }
    found = slices(rows, traits)
    assert found["size", "400 px and more"] == [0]
    assert found["size", "under 200 px"] == [1]
    assert found["shape", "portrait"] == [1]
    assert found["colour", "grey"] == [0]
    assert found["light", "bright"] == [1]
    assert found["source", "web"] == [1]
    assert found["sightings", "5 times and more"] == [1]
    assert found["copies", "with near-duplicates"] == [0, 1]
    assert found["labellers", "2 and more"] == [2]
    by = {key[0] for key, places in found.items() if 2 in places}
    assert by == {"size", "shape", "copies", "labellers"}, "of an image of which nothing is known, only the manifest speaks"


def test_each_way_of_slicing_counts_every_image_once() -> None:
    rows = [row(i, "disc" if t else "stripe", width=int(w)) for i, (t, w) in enumerate(zip(TRUTH, RNG.integers(50, 900, 600), strict=True))]
    report = evaluate(rows, "disc", PROBABILITY, 0.5).report
    assert {sum(s.images for s in report.slices if s.by == by) for by in ("size", "shape", "copies")} == {600}
    assert sum(s.confusion["fp"] for s in report.slices if s.by == "size") == report.confusion["fp"]


@pytest.mark.parametrize(("colour", "chroma", "brightness"), [((128, 128, 128), 0, 128), ((250, 10, 10), 240, 81.8), ((8, 8, 8), 0, 8)])
def test_traits_are_read_off_the_pixels(colour: tuple[int, int, int], chroma: float, brightness: float) -> None:
    import io

    sink = io.BytesIO()
    Image.new("RGB", (300, 200), colour).save(sink, "JPEG", quality=95)
    traits = look(sink.getvalue())
    assert traits.chroma == pytest.approx(chroma, abs=4)
    assert traits.brightness == pytest.approx(brightness, abs=3)


def test_a_group_in_two_splits_is_counted() -> None:
    rows = [row(0, group="a"), row(1, group="a", split="train"), row(2, group="b"), row(3, group="b")]
    assert groups_parted(rows) == 1
