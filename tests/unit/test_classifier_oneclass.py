"""One-class fits at scale and in parts: cells, streams and reservoirs against what holds everything at once."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from cosmop_classifier import oneclass
from cosmop_classifier.banks import KnnHead, patches
from cosmop_classifier.heads import Features, read_head, unit
from cosmop_classifier.measures import auroc
from cosmop_classifier.oneclass import TooFewImagesError, fit_background, fit_knn, fit_mahalanobis, ledoit_wolf
from cosmop_classifier.oneclass_paper import StreamedPaper, fit_svm
from cosmop_classifier.oneclass_patches import Patches, coreset, fit_patches
from sklearn.covariance import LedoitWolf
from sklearn.decomposition import PCA

RNG = np.random.default_rng(0)


def clustered(count: int, size: int = 24, clusters: int = 12, seed: int = 1) -> np.ndarray:
    """Features as networks give them: a few kinds of pictures, each with its spread."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(99).standard_normal((clusters, size)) * 2
    return (centres[rng.integers(clusters, size=count)] + rng.standard_normal((count, size))).astype(np.float32)


def maps(count: int, seed: int, shift: float = 0.0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    mixing = np.random.default_rng(7).standard_normal((6, 8 * 16)) * np.array([5, 4, 3, 2, 1, 1])[:, None]
    flat = rng.standard_normal((count, 6)) @ mixing + 0.3 * rng.standard_normal((count, 8 * 16)) + shift
    return flat.reshape(count, 8, 4, 4).astype(np.float32)


def test_cells_find_the_neighbours_that_a_full_search_finds(monkeypatch: pytest.MonkeyPatch) -> None:
    bank, new = clustered(6000), clustered(300, seed=2)
    monkeypatch.setattr(oneclass, "ASKED", len(bank))
    whole = fit_knn(bank)
    monkeypatch.setattr(oneclass, "_CELLS_ABOVE", 5000)
    fit = fit_knn(bank)
    assert fit.details["cells"] == round(6000**0.5)
    np.testing.assert_array_equal(fit.head.bank, unit(bank)[fit.order])
    rows, alike = fit.head.nearest(Features(new), 10)
    expected, best = whole.head.nearest(Features(new), 10)
    shared = [len(set(fit.order[a]) & set(b)) / 10 for a, b in zip(rows, expected, strict=True)]
    assert np.mean(shared) > 0.97
    assert np.abs(alike - best).max() < 0.05
    assert fit.threshold == pytest.approx(whole.threshold, abs=0.003)
    again = read_head(fit.head.to_bytes(), "knn")
    np.testing.assert_array_equal(again.score(Features(new)), fit.head.score(Features(new)))


def test_enough_neighbours_are_found_even_in_tiny_cells() -> None:
    bank = unit(RNG.standard_normal((40, 8)).astype(np.float32))
    head = KnnHead(bank, 10, bank.copy(), np.arange(41, dtype=np.int64))
    rows, alike = head.nearest(Features(bank[:3]), 30)
    assert rows.shape == (3, 30)
    np.testing.assert_allclose(alike, -np.sort(-(bank[:3] @ bank.T), axis=1)[:, :30], atol=1e-6)


def test_the_number_of_neighbours_follows_the_number_of_images() -> None:
    assert [fit_knn(clustered(n)).head.neighbours for n in (4, 30, 60, 400)] == [2, 3, 6, 10]


def test_near_duplicates_do_not_raise_the_threshold() -> None:
    once = clustered(60)
    twice, groups = np.concatenate([once, once + 1e-3]), [str(i) for i in range(60)] * 2
    assert fit_knn(twice, neighbours=2, groups=groups).threshold == pytest.approx(fit_knn(once, neighbours=1).threshold, abs=1e-3)
    assert fit_knn(twice, neighbours=2).threshold > fit_knn(once, neighbours=1).threshold
    assert np.isfinite(fit_knn(once, groups=["same"] * 60).threshold)


def test_ledoit_wolf_in_blocks_is_scikit_learns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(oneclass, "_BLOCK", 64)
    x = clustered(500) + 3
    mean, covariance = ledoit_wolf(x)
    peer = LedoitWolf().fit(x.astype(np.float64))
    np.testing.assert_allclose(mean, peer.location_, rtol=1e-5)
    np.testing.assert_allclose(covariance, peer.covariance_, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("fit", [fit_knn, fit_mahalanobis])
def test_a_sample_of_many_images_gives_the_threshold_of_all(fit, monkeypatch: pytest.MonkeyPatch) -> None:
    x, new = clustered(3000), clustered(1000, seed=5)
    monkeypatch.setattr(oneclass, "ASKED", 500)
    found = fit(x)
    assert np.mean(found.head.score(Features(new)) >= found.threshold) == pytest.approx(0.9, abs=0.04)


def test_background_tells_the_class_from_what_else_there_is() -> None:
    positive, background = clustered(120), clustered(200, seed=8) * 0.3 - 1.5
    new, other = clustered(100, seed=9), clustered(100, seed=10) * 0.3 - 1.5
    fit = fit_background(positive, background)
    score = fit.head.score(Features(np.concatenate([new, other]) * 7))
    assert auroc(np.arange(200) < 100, score) > 0.97, "the length of a feature vector does not matter"
    assert np.mean(score[:100] >= fit.threshold) == pytest.approx(0.9, abs=0.08)
    with pytest.raises(TooFewImagesError, match="2 background images"):
        fit_background(positive, background[:2])


def test_streamed_components_are_those_of_all_images() -> None:
    x = maps(900, 1)
    flat = x.reshape(900, -1)
    whole = PCA(6, svd_solver="full").fit((flat - flat[:200].mean(0)) / flat[:200].std(0))
    fitting = StreamedPaper(x[:200], components=6, block=150)
    for start in range(200, 900, 70):
        fitting.learn(x[start : start + 70])
    fit = fitting.finish(fitting.reduce(x[:300]))
    assert abs(np.linalg.det(fit.head.components @ whole.components_.T)) == pytest.approx(1.0, abs=1e-3), "the same subspace"
    np.testing.assert_allclose(fit.head.centre, whole.mean_, atol=1e-4)
    assert fit.details["explained_variance"] == pytest.approx(whole.explained_variance_ratio_.sum(), abs=2e-3)
    assert (fit.details["pca_images"], fit.details["svm_images"]) == (900, 300)


def test_streamed_and_whole_preset_agree_where_both_can() -> None:
    x, new = maps(150, 1), np.concatenate([maps(60, 2), maps(60, 3, shift=4.0)])
    streamed = StreamedPaper(x, components=1024, block=4000)
    ours, whole = streamed.finish(streamed.reduce(x)), fit_svm(x)
    features = Features(np.zeros((120, 0), np.float32), new)
    assert ours.details["components"] == whole.details["components"]
    np.testing.assert_allclose(ours.head.score(features), whole.head.score(features), atol=0.02 * np.abs(whole.head.score(features)).max())


def test_patches_are_local_means_of_unit_length() -> None:
    x = RNG.standard_normal((2, 3, 5, 4)).astype(np.float32)
    found = patches(x)
    middle = x[1, :, 1:4, 1:4].mean((1, 2))
    np.testing.assert_allclose(found[1, 2 * 4 + 2], middle / np.linalg.norm(middle), atol=1e-6)
    assert found.shape == (2, 20, 3)


def test_a_coreset_covers_better_than_chance() -> None:
    rows = clustered(3000, clusters=40)
    chosen = coreset(rows, 60, np.random.default_rng(0))
    assert len(set(chosen.tolist())) == 60

    def radius(places: np.ndarray) -> float:
        return float(np.sqrt(((rows[:, None] - rows[places][None]) ** 2).sum(-1)).min(1).max())

    assert radius(chosen) < radius(RNG.permutation(3000)[:60])


def test_patches_tell_a_strange_scene() -> None:
    def scenes(count: int, kinds: np.ndarray) -> np.ndarray:
        """Every patch is of one of a few kinds."""
        return (kinds[RNG.integers(len(kinds), size=(count, 4, 4))] + 0.5 * RNG.standard_normal((count, 4, 4, 8))).transpose(0, 3, 1, 2).astype(np.float32)

    known, others = RNG.standard_normal((2, 3, 8)) * 2
    fit = fit_patches(scenes(120, known), memory=4)
    score = fit.head.score(Features(np.zeros((80, 0), np.float32), np.concatenate([scenes(40, known), scenes(40, others)])))
    assert auroc(np.arange(80) < 40, score) > 0.95
    assert np.mean(score[:40] >= fit.threshold) > 0.7


def test_patches_of_many_images_stay_within_their_memory() -> None:
    """Four times the images, the same memory: what anomalib's PatchCore lacks."""
    chunk = maps(100, 1)
    peaks = []
    for chunks in (4, 16):
        tracemalloc.start()
        fitting = Patches(chunks * 100, memory=1)
        for _ in range(chunks):
            fitting.learn(chunk)
        fit = fitting.finish()
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert fit.details["patches_seen"] == (1600 - 256) * 16
    assert max(peaks) < 2 * 2**20
    assert peaks[1] < peaks[0] * 1.3
