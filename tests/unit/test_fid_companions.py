"""KID, precision, recall, density, coverage and copies against slow references; protocols; the record's warnings."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from cosmop_common.records import EvaluationRecord, MeasureRecord
from cosmop_fid_evaluator.copies_sheet import copies_rows, copies_sheet
from cosmop_fid_evaluator.errors import TooFewImagesError, UnknownMeasureError, UnknownProtocolError
from cosmop_fid_evaluator.evaluation import evaluate
from cosmop_fid_evaluator.kid import kid, kid_of_subsets
from cosmop_fid_evaluator.leaks import colour_leak, rotation_leak
from cosmop_fid_evaluator.neighbours import copies, prdc
from cosmop_fid_evaluator.protocol import PROTOCOLS, Protocol, find_protocol


def draw(seed: int, n: int, d: int, shift: float = 0.0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, d)) + shift


def slow_kid(x: np.ndarray, y: np.ndarray) -> float:
    def k(a: np.ndarray, b: np.ndarray) -> float:
        return float((a @ b / a.size + 1) ** 3)

    within_x = np.mean([k(a, b) for a, b in itertools.permutations(x, 2)])
    within_y = np.mean([k(a, b) for a, b in itertools.permutations(y, 2)])
    return float(within_x + within_y - 2 * np.mean([k(a, b) for a in x for b in y]))


def test_kid_is_its_definition() -> None:
    x, y = draw(1, 12, 6), draw(2, 9, 6, 0.4)
    assert kid(x, y).value == pytest.approx(slow_kid(x, y), rel=1e-10)
    assert kid(x.astype(np.float32), y.astype(np.float32)).value == pytest.approx(slow_kid(x, y), rel=1e-4)


def test_kid_is_unbiased_and_its_interval_covers() -> None:
    drawn = [kid(draw(100 + 2 * i, 40, 8), draw(101 + 2 * i, 50, 8, 0.5)) for i in range(200)]
    mean = np.mean([k.value for k in drawn])
    far = kid(draw(7, 4000, 8), draw(8, 4000, 8, 0.5)).value
    assert mean == pytest.approx(far, rel=0.1)
    assert np.mean([k.interval[0] <= far <= k.interval[1] for k in drawn]) > 0.88


def test_kid_over_subsets_is_near_the_whole() -> None:
    x, y = draw(3, 200, 8), draw(4, 200, 8, 0.5)
    mean, deviation = kid_of_subsets(x, y, subsets=50, size=100)
    assert mean == pytest.approx(kid(x, y).value, abs=3 * deviation / np.sqrt(50))
    with pytest.raises(TooFewImagesError, match="subsets of 1000"):
        kid_of_subsets(x, y)
    with pytest.raises(TooFewImagesError, match="at least 2"):
        kid(x[:1], y)


def slow_prdc(real: np.ndarray, fake: np.ndarray, k: int) -> dict[str, float]:
    def distance(a: np.ndarray, b: np.ndarray) -> float:
        return float(np.linalg.norm(a - b))

    def radius(points: np.ndarray, i: int) -> float:
        return sorted(distance(points[i], points[j]) for j in range(len(points)) if j != i)[k - 1]

    real_radius = [radius(real, i) for i in range(len(real))]
    fake_radius = [radius(fake, i) for i in range(len(fake))]
    balls = [[distance(f, real[i]) <= real_radius[i] for i in range(len(real))] for f in fake]
    return {
        "precision": float(np.mean([any(b) for b in balls])),
        "recall": float(np.mean([any(distance(r, fake[j]) <= fake_radius[j] for j in range(len(fake))) for r in real])),
        "density": float(np.mean([sum(b) / k for b in balls])),
        "coverage": float(np.mean([min(distance(r, f) for f in fake) <= real_radius[i] for i, r in enumerate(real)])),
    }


@pytest.mark.parametrize(("seed", "shift", "k"), [(1, 0.0, 3), (2, 0.8, 5), (3, 3.0, 2)])
def test_prdc_is_its_definition(seed: int, shift: float, k: int) -> None:
    real, fake = draw(seed, 40, 4), draw(seed + 50, 30, 4, shift)
    found, expected = prdc(real, fake, k), slow_prdc(real, fake, k)
    for name, value in expected.items():
        share = getattr(found, name)
        assert share.value == pytest.approx(value), name
        assert share.interval[0] <= share.value <= share.interval[1]
    with pytest.raises(TooFewImagesError, match="more than"):
        prdc(real[:k], fake, k)


def test_a_copy_is_found_with_its_original() -> None:
    real, fake = draw(5, 60, 16), draw(6, 20, 16)
    fake[3] = real[41] + 1e-3
    found = copies(real, fake)
    assert found.nearest[3] == 41
    assert list(np.flatnonzero(found.suspected(0.5))) == [3]
    row = copies_rows(found, [f"r{i}" for i in range(60)], [f"c{i}" for i in range(20)])[0]
    assert (row.candidate, row.reference) == ("c3", "r41")
    assert row.ratio < 0.01
    with pytest.raises(TooFewImagesError):
        copies(real[:1], fake)


def test_an_exact_copy_of_an_image_that_is_there_twice_is_suspected() -> None:
    real = draw(7, 10, 4)
    real[1] = real[0]
    assert copies(real, real[:1]).suspected(0.5).all()


def png(colour: str) -> bytes:
    import io

    from PIL import Image

    sink = io.BytesIO()
    Image.new("RGB", (20, 30), colour).save(sink, "PNG")
    return sink.getvalue()


def test_the_sheet_shows_pairs_side_by_side() -> None:
    import io

    from PIL import Image

    sheet = Image.open(io.BytesIO(copies_sheet([(png("red"), png("blue"))] * 5)))
    assert sheet.size == (4 * 288 - 32, 2 * 160 - 32)
    assert sheet.getpixel((64, 64)) == (255, 0, 0)
    assert sheet.getpixel((192, 64)) == (0, 0, 255)


def tiny_protocol(features: int) -> Protocol:
    return Protocol("fid", "inception-2015-12-05", "tf1", "fp32", features)


def test_the_distance_comes_first_and_small_sets_are_warned_of() -> None:
    outcome = evaluate(tiny_protocol(64), draw(1, 60, 64), draw(2, 55, 64), ["kid", "prdc", "infinity", "copies", "bootstrap"])
    names = [m.name for m in outcome.measures]
    assert names == ["fid", "kid", "precision", "recall", "density", "coverage", "fid-infinity", "copies", "fid-bootstrap"]
    assert all(m.interval and m.interval[0] <= m.value <= m.interval[1] for m in outcome.measures)
    assert "singular covariances of 64 features" in outcome.warnings[0]
    assert outcome.copies is not None
    enough = evaluate(tiny_protocol(4), draw(1, 60, 4), draw(2, 55, 4))
    assert "10,000" in enough.warnings[0]


def test_a_measure_that_cannot_be_is_left_out_and_told() -> None:
    outcome = evaluate(tiny_protocol(8), draw(1, 4, 8), draw(2, 4, 8), ["prdc", "kid"])
    assert [m.name for m in outcome.measures] == ["fid", "kid"]
    assert any("prdc is left out" in w for w in outcome.warnings)
    with pytest.raises(UnknownMeasureError, match="no measure is"):
        evaluate(tiny_protocol(8), draw(1, 4, 8), draw(2, 4, 8), ["is"])


def yardstick(protocol: str, measure: str = "fid") -> tuple[str, str]:
    first = MeasureRecord(name=measure, value=1.0)
    return EvaluationRecord(run="r", reference="a", candidate="b", measures=[first], protocol=protocol, reference_images=9, candidate_images=9).yardstick


def test_only_like_is_compared_with_like() -> None:
    fid, clean = find_protocol("fid"), find_protocol("fid-clean")
    assert find_protocol("") == fid
    ours = fid.describe("ab" * 32, 32, 250, 200)
    same = fid.describe("ab" * 32, 32, 250, 200)
    others = [clean.describe("ab" * 32, 32, 250, 200), fid.describe("ab" * 32, 32, 250, 199), fid.describe("cd" * 32, 32, 250, 200)]
    yardsticks = [yardstick(told) for told in (ours, same, *others)]
    assert yardsticks[0] == yardsticks[1]
    assert len(set(yardsticks)) == 4
    assert yardstick(ours, "kid") not in yardsticks
    with pytest.raises(UnknownProtocolError, match="known are fid"):
        find_protocol("fvd")
    assert not any(p.name.startswith("fid") for p in PROTOCOLS.values() if not p.network.startswith("inception"))


def oriented(seed: int, n: int, turn: int = 0) -> np.ndarray:
    """Features whose first coordinates tell the turn, among others that do not."""
    x = draw(seed, n, 40)
    x[:, turn] += 4.0
    return x


def test_turned_samples_are_found() -> None:
    turned = [oriented(20 + turn, 80, turn) for turn in range(4)]
    clean = rotation_leak(turned, oriented(30, 60))
    assert clean.candidate.value < 0.1
    assert clean.reference.value < 0.1
    leaky = rotation_leak(turned, np.concatenate([oriented(31, 30), oriented(32, 30, 2)]))
    assert leaky.candidate.value == pytest.approx(0.5, abs=0.1)
    with pytest.raises(TooFewImagesError, match="turned"):
        rotation_leak([part[:9] for part in turned], turned[0])


def test_what_has_no_upright_is_said_of_the_reference_too() -> None:
    leak = rotation_leak([draw(40 + turn, 80, 40) for turn in range(4)], draw(50, 60, 40))
    assert leak.reference.value > 0.5
    assert leak.candidate.value > 0.5


def test_tinted_samples_are_found_and_brighter_ones_are_not() -> None:
    real = draw(60, 300, 3) * 10 + 120
    assert colour_leak(real, draw(61, 200, 3) * 10 + 160).candidate.value < 0.12
    tint = draw(62, 200, 3) * 10 + (120, 120, 120)
    tint[:50] += (60, 0, -60)
    found = colour_leak(real, tint)
    assert found.candidate.value == pytest.approx(0.29, abs=0.06)
    assert found.reference.value == pytest.approx(0.05, abs=0.01)
    with pytest.raises(TooFewImagesError, match="colours"):
        colour_leak(real[:19], tint)


def test_equal_images_are_no_distance_apart() -> None:
    # As networks give them: large against their differences, equal but for float32's rounding.
    x = (np.abs(draw(40, 30, 64)) * 5 + 3).astype(np.float32)
    twice = np.concatenate([x, x * np.float32(1 + 1e-7)])
    found = copies(twice, x + np.float32(1e-6))
    assert (found.ratio == 0).all()
    assert np.isfinite(copies(twice, draw(41, 10, 64)).ratio).all()
    same = np.repeat(x[:1], 20, axis=0)
    shares = prdc(same, same)
    assert [s.value for s in (shares.precision, shares.recall, shares.coverage)] == [1, 1, 1]
