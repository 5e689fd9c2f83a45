"""The Frechet distance against closed forms, scipy's sqrtm, itself in its other forms, and its own influence by re-weighting."""

from __future__ import annotations

import numpy as np
import pytest
from cosmop_fid_evaluator.errors import TooFewImagesError
from cosmop_fid_evaluator.extrapolation import frechet_infinity
from cosmop_fid_evaluator.frechet import factor, frechet_distance, frechet_value, frechet_with_influence, root, trace_term
from cosmop_fid_evaluator.intervals import bootstrap_interval, influence_interval, wilson_interval
from cosmop_fid_evaluator.moments import Moments
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from scipy import linalg


def draw(seed: int, n: int, d: int, shift: float = 0.0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, d)) @ rng.normal(size=(d, d)) / np.sqrt(d) + shift


def by_sqrtm(x: np.ndarray, y: np.ndarray) -> float:
    """The textbook form, as other tools compute it."""
    s1, s2 = np.cov(x, rowvar=False), np.cov(y, rowvar=False)
    root = linalg.sqrtm(s1 @ s2)
    return float(((x.mean(0) - y.mean(0)) ** 2).sum() + np.trace(s1 + s2 - 2 * np.real(root)))


@pytest.mark.parametrize(("n", "m", "d"), [(200, 300, 16), (500, 90, 40)])
def test_it_is_what_sqrtm_says_where_sqrtm_is_right(n: int, m: int, d: int) -> None:
    x, y = draw(1, n, d), draw(2, m, d, 0.3)
    expected = by_sqrtm(x, y)
    assert frechet_value(x, y) == pytest.approx(expected, rel=1e-9)
    assert frechet_distance(Moments.of(x), Moments.of(y)) == pytest.approx(expected, rel=1e-9)
    assert frechet_with_influence(x, y).value == pytest.approx(expected, rel=1e-9)


def test_known_gaussians_in_closed_form() -> None:
    # Diagonal covariances: |m1 - m2|^2 + sum (s1 - s2)^2.
    s1, s2, shift = np.array([1.0, 2.0, 3.0]), np.array([0.5, 2.5, 0.0]), np.array([1.0, -2.0, 0.5])
    first = Moments(11, np.zeros(3), 10 * np.diag(s1**2))
    second = Moments(21, shift, 20 * np.diag(s2**2))
    assert frechet_distance(first, second) == pytest.approx((shift**2).sum() + ((s1 - s2) ** 2).sum(), rel=1e-12)


@pytest.mark.parametrize(("n", "m"), [(20, 30), (20, 200), (200, 20)])
def test_the_nuclear_form_is_the_eigenvalue_form_on_singular_covariances(n: int, m: int) -> None:
    x, y = draw(3, n, 64), draw(4, m, 64, 0.1)
    eigenvalues = linalg.eigvals(np.cov(x, rowvar=False) @ np.cov(y, rowvar=False)).real
    expected = np.sqrt(np.clip(eigenvalues, 0, None)).sum()
    assert trace_term(factor(x), factor(y)) == pytest.approx(expected, rel=1e-6)
    assert frechet_value(x, y) == pytest.approx(frechet_distance(Moments.of(x), Moments.of(y)), rel=1e-6)


def test_features_that_never_vary_do_no_harm() -> None:
    x, y = draw(15, 100, 12), draw(16, 90, 12, 0.2)
    x[:, 3] = y[:, 3] = 0.0
    found = frechet_with_influence(x, y)
    without = frechet_with_influence(np.delete(x, 3, 1), np.delete(y, 3, 1))
    assert found.value == pytest.approx(without.value, rel=1e-9)
    assert found.standard_error == pytest.approx(without.standard_error, rel=1e-6)


def test_a_set_is_no_distance_from_itself() -> None:
    x = draw(5, 50, 80)
    assert frechet_value(x, x) < 1e-9
    assert influence_interval(frechet_with_influence(x, x))[1] < 1e-3
    assert bootstrap_interval(frechet_value, x, x, rounds=10)[0] == 0
    same = np.ones((6, 80), np.float32)
    assert frechet_with_influence(same, same).value == frechet_with_influence(same, same).standard_error == 0
    assert frechet_value(x.astype(np.float32), x[::-1].astype(np.float32)) < 1e-9


def test_features_of_very_unlike_spread_cost_no_digits() -> None:
    # Spread over three orders of magnitude, and a distance that is a small rest of large traces: as Inception's features are.
    rng = np.random.default_rng(0)
    mixing = rng.normal(size=(120, 120)) * np.arange(1.0, 121) ** -1.5
    x, y = np.maximum(rng.normal(size=(900, 120)) @ mixing, 0), np.maximum(rng.normal(size=(900, 120)) @ mixing * 1.02, 0)
    # Exact to rounding: triangles of the centred features themselves, no covariance formed.
    a, b = (np.linalg.qr((z - z.mean(0)) / np.sqrt(len(z) - 1))[1] for z in (x, y))
    expected = ((x.mean(0) - y.mean(0)) ** 2).sum() + (a * a).sum() + (b * b).sum() - 2 * linalg.svdvals(a @ b.T).sum()
    assert frechet_value(x, y) == pytest.approx(expected, rel=1e-9)
    assert frechet_with_influence(x, y).value == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("n", [10, 200])
def test_a_root_gives_the_covariance_even_when_it_is_singular(n: int) -> None:
    covariance = np.cov(draw(6, n, 30), rowvar=False)
    found = root(covariance)
    assert np.isrealobj(found)
    np.testing.assert_allclose(found @ found.T, covariance, atol=1e-12)


def test_a_covariance_that_is_singular_but_for_rounding_moves_nothing() -> None:
    # A feature that is a sum of two others, up to 1e-9: Cholesky may pass, its inverse would be noise.
    x, y = draw(21, 300, 12), draw(22, 280, 12, 0.2)
    for z in (x, y):
        z[:, 5] = z[:, 1] + z[:, 2] + np.random.default_rng(1).normal(size=len(z)) * 1e-9
    rotation = np.linalg.qr(np.random.default_rng(2).normal(size=(12, 12)))[0]
    found, turned = frechet_with_influence(x, y), frechet_with_influence(x @ rotation, y @ rotation)
    assert turned.value == pytest.approx(found.value, rel=1e-6)
    assert turned.standard_error == pytest.approx(found.standard_error, rel=1e-4)
    assert frechet_distance(Moments.of(x), Moments.of(y)) == pytest.approx(by_sqrtm(x, y), rel=1e-6)


@pytest.mark.parametrize(("n", "m", "d"), [(12, 15, 40), (90, 80, 10), (60, 12, 20), (12, 60, 20)])
def test_influence_is_the_derivative_by_the_weight_of_an_observation(n: int, m: int, d: int) -> None:
    x, y = draw(7, n, d), draw(8, m, d, 0.5)
    found = frechet_with_influence(x, y)

    def weighted(weights: np.ndarray) -> float:
        mean = weights @ x
        rows = (x - mean) * np.sqrt(weights * n / (n - 1))[:, None]
        other = (y - y.mean(0)) / np.sqrt(m - 1)
        shift = mean - y.mean(0)
        return float(shift @ shift + (rows**2).sum() + (other**2).sum() - 2 * linalg.svdvals(rows @ other.T).sum())

    step = 1e-5
    for i in (0, n // 2):
        towards = np.full(n, 1 / n)
        toward, away = towards * (1 - step), towards * (1 + step)
        toward[i] += step
        away[i] -= step
        slope = (weighted(toward) - weighted(away)) / (2 * step)
        assert found.first[i] == pytest.approx(slope, rel=1e-4, abs=1e-4)
    assert abs(found.first.mean()) < 1e-8
    # The distance is symmetric, and so is everything about it.
    mirrored = frechet_with_influence(y, x)
    assert mirrored.value == pytest.approx(found.value, rel=1e-10)
    np.testing.assert_allclose(mirrored.second, found.first, rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(mirrored.first, found.second, rtol=1e-6, atol=1e-8)
    assert found.second.shape == (m,)


@pytest.mark.parametrize(("d", "widest"), [(5, 1.3), (120, 1.7)])
def test_the_influence_interval_is_as_wide_as_redrawn_sets_scatter(d: int, widest: float) -> None:
    # With fewer images than features it is up to 1.5 times too wide (the jackknife and the bootstrap are worse), never too narrow.
    rng = np.random.default_rng(9)
    mixing = rng.normal(size=(d, d)) / np.sqrt(d)
    drawn = [frechet_with_influence(rng.normal(size=(80, d)) @ mixing, rng.normal(size=(70, d)) @ mixing + 0.2) for _ in range(150)]
    scatter = np.std([r.value for r in drawn])
    claimed = np.mean([r.standard_error for r in drawn])
    assert 0.8 < claimed / scatter < widest
    mean = np.mean([r.value for r in drawn])
    covered = np.mean([low <= mean <= high for low, high in map(influence_interval, drawn)])
    assert covered > 0.88


def test_the_bootstrap_agrees_with_the_influence() -> None:
    x, y = draw(10, 150, 6), draw(11, 150, 6, 0.7)
    low, high = influence_interval(frechet_with_influence(x, y))
    bottom, top = bootstrap_interval(frechet_value, x, y, rounds=300)
    assert bottom < frechet_value(x, y) < top
    assert (top - bottom) / (high - low) == pytest.approx(1, abs=0.3)
    assert bootstrap_interval(frechet_value, x, y, rounds=20) == bootstrap_interval(frechet_value, x, y, rounds=20)


def test_wilson_is_the_published_interval() -> None:
    # Newcombe, "Two-sided confidence intervals for the single proportion", 1998, table I: 81 of 263, 15 of 148, 0 of 20.
    assert wilson_interval(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert wilson_interval(15, 148) == pytest.approx((0.0624, 0.1605), abs=5e-5)
    assert wilson_interval(0, 20) == pytest.approx((0.0, 0.1611), abs=5e-5)


def test_extrapolation_takes_the_bias_away() -> None:
    rng = np.random.default_rng(12)
    x, y = rng.normal(size=(400, 40)), rng.normal(size=(300, 40))
    plain, infinite = frechet_value(x, y), frechet_infinity(x, y)
    assert plain > 2
    assert abs(infinite.value) < plain / 5
    assert infinite.interval[0] < infinite.value < infinite.interval[1]
    assert frechet_infinity(x, y) == infinite
    with pytest.raises(TooFewImagesError, match="at least 50"):
        frechet_infinity(x[:49], y)


@hypothesis_settings(max_examples=30, deadline=None)
@given(cuts=st.lists(st.integers(1, 99), max_size=5, unique=True), offset=st.sampled_from([0.0, 1.0, 1e6]))
def test_statistics_of_shards_merge_to_those_of_the_whole(cuts: list[int], offset: float) -> None:
    x = draw(13, 100, 7) + offset
    whole = Moments.of(x)
    parts = [Moments.of(part) for part in np.split(x, sorted(cuts))]
    merged = parts[-1]
    for part in parts[:-1]:
        merged = merged.merge(part)
    assert merged.count == 100
    np.testing.assert_allclose(merged.mean, whole.mean, rtol=1e-13, atol=1e-13)
    np.testing.assert_allclose(merged.covariance, np.cov(x, rowvar=False), rtol=1e-8 if offset > 1 else 1e-12, atol=1e-8 if offset > 1 else 1e-13)


def test_many_rows_are_taken_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = draw(17, 90, 8).astype(np.float32), draw(18, 70, 8, 0.4).astype(np.float32)
    whole = frechet_with_influence(x, y)
    monkeypatch.setattr("cosmop_fid_evaluator.frechet.BLOCK", 16)
    monkeypatch.setattr("cosmop_fid_evaluator.moments.BLOCK", 16)
    blocks = frechet_with_influence(x, y)
    assert blocks.value == pytest.approx(whole.value, rel=1e-10)
    np.testing.assert_allclose(blocks.first, whole.first, rtol=1e-7, atol=1e-9)


def test_statistics_survive_a_file() -> None:
    whole = Moments.of(draw(14, 9, 4))
    again = Moments.loads(whole.dumps())
    assert again.count == whole.count
    np.testing.assert_array_equal(again.scatter, whole.scatter)


def test_too_few_images_are_told() -> None:
    one = np.ones((1, 4))
    with pytest.raises(TooFewImagesError, match="at least 2"):
        frechet_value(one, draw(1, 5, 4))
    with pytest.raises(TooFewImagesError, match="at least 2"):
        _ = Moments.of(one).covariance
    with pytest.raises(TooFewImagesError, match="at least one row"):
        Moments.of(np.empty((0, 4)))
    with pytest.raises(ValueError, match="different networks"):
        Moments.of(one).merge(Moments.of(np.ones((2, 5))))
