"""Heads against scikit-learn, through their files; one-class fits against what they promise."""

from __future__ import annotations

import numpy as np
import pytest
from cosmop_classifier import augment
from cosmop_classifier.banks import PatchHead
from cosmop_classifier.binary import ClassMissingError, fit_linear
from cosmop_classifier.heads import HEADS, Features, HeadError, LinearHead, read_head, unit
from cosmop_classifier.measures import auroc
from cosmop_classifier.oneclass import TooFewImagesError, cut, fit_knn, fit_mahalanobis
from cosmop_classifier.oneclass_paper import fit_svm
from sklearn.covariance import LedoitWolf
from sklearn.decomposition import PCA
from sklearn.neighbors import NearestNeighbors
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import OneClassSVM

RNG = np.random.default_rng(0)
MAPS = RNG.standard_normal((30, 5, 3, 3)).astype(np.float32)
POOLED = RNG.standard_normal((30, 12)).astype(np.float32)
NEW = RNG.standard_normal((9, 12)).astype(np.float32)


def test_the_papers_head_is_scikit_learns_pipeline() -> None:
    flat, new = MAPS.reshape(30, -1), RNG.standard_normal((9, 5, 3, 3)).astype(np.float32)
    peer = make_pipeline(StandardScaler(), PCA(29, svd_solver="full"), OneClassSVM()).fit(flat.astype(np.float64))
    fit = fit_svm(MAPS)
    np.testing.assert_allclose(fit.head.score(Features(np.zeros((9, 0), np.float32), new)), peer.decision_function(new.reshape(9, -1)), atol=2e-4)
    assert fit.details["components"] == 29
    assert fit.details["explained_variance"] == pytest.approx(1.0, abs=1e-4)
    assert fit.threshold == 0.0


def test_the_papers_head_needs_the_map() -> None:
    with pytest.raises(HeadError, match="needs the whole feature map"):
        fit_svm(MAPS).head.score(Features(POOLED))


def test_knn_is_scikit_learns_with_cosine() -> None:
    peer = NearestNeighbors(n_neighbors=2, metric="cosine").fit(POOLED)
    fit = fit_knn(POOLED, neighbours=2)
    np.testing.assert_allclose(fit.head.score(Features(NEW)), 1 - peer.kneighbors(NEW)[0].mean(1), atol=1e-5)
    rows, alike = fit.head.nearest(Features(NEW), 3)
    distances, neighbours = peer.kneighbors(NEW, 3)
    np.testing.assert_array_equal(rows, neighbours)
    np.testing.assert_allclose(alike, 1 - distances, atol=1e-5)


def test_mahalanobis_is_ledoit_wolfs() -> None:
    peer = LedoitWolf().fit(POOLED)
    found = fit_mahalanobis(POOLED).head.score(Features(NEW))
    np.testing.assert_allclose(found**2, peer.mahalanobis(NEW), rtol=1e-3)


@pytest.mark.parametrize("keep", [0.5, 0.9, 0.95])
def test_the_threshold_keeps_its_share_of_images_that_were_not_looked_at(keep: float) -> None:
    rng = np.random.default_rng(5)
    fit = fit_knn(rng.normal(1, 0.5, (400, 16)).astype(np.float32), keep=keep)
    kept = np.mean(fit.head.score(Features(rng.normal(1, 0.5, (400, 16)).astype(np.float32))) >= fit.threshold)
    assert kept == pytest.approx(keep, abs=0.06)


def test_cut_is_at_least_the_share() -> None:
    assert cut(np.arange(10.0), 0.9) == 1.0
    assert cut(np.arange(10.0), 0.95) == 0.0


@pytest.mark.parametrize("fit", [fit_knn, fit_mahalanobis])
def test_too_few_images_are_refused(fit) -> None:
    with pytest.raises(TooFewImagesError, match="3 positive training images"):
        fit(POOLED[:3])


@pytest.mark.parametrize(
    "head",
    [LinearHead(POOLED[0], 0.25), fit_knn(POOLED).head, fit_mahalanobis(POOLED).head, fit_svm(MAPS).head, PatchHead(unit(POOLED[:, :5]), 0.5)],
    ids=sorted(HEADS, key=list(HEADS).index),
)
def test_a_head_comes_back_from_its_file(head) -> None:
    features = Features(NEW, RNG.standard_normal((9, 5, 3, 3)).astype(np.float32))
    data = head.to_bytes()
    again = read_head(data, head.kind)
    assert again.to_bytes() == data
    np.testing.assert_allclose(again.score(features), head.score(features), atol=1e-5)


def test_a_head_of_another_kind_is_refused() -> None:
    with pytest.raises(HeadError, match="train the model again"):
        read_head(LinearHead(POOLED[0], 0.0).to_bytes(), "svm")
    with pytest.raises(HeadError, match="known are knn, linear"):
        read_head(b"", "forest")
    with pytest.raises(HeadError, match="cannot be read"):
        read_head(b"\x80\x04\x95pickle", "linear")


def test_a_linear_head_learns_what_can_be_learned_and_out_of_fold_is_honest() -> None:
    rng = np.random.default_rng(6)
    truth = np.arange(80) < 30
    x = rng.standard_normal((80, 40)).astype(np.float32)
    noise = fit_linear(x, truth, [str(i) for i in range(80)])
    assert abs(auroc(truth, noise.out_of_fold) - 0.5) < 0.2, "on noise, images not seen are not told apart"
    x[truth, 0] += 6
    fit = fit_linear(x, truth, [str(i) for i in range(80)], copies=[x + 0.01])
    assert auroc(truth, fit.out_of_fold) > 0.97
    assert abs(np.mean(fit.head.score(Features(x)) > 0) - 30 / 80) < 0.05


def test_near_duplicates_never_help_out_of_fold() -> None:
    rng = np.random.default_rng(7)
    x, truth = rng.standard_normal((30, 60)).astype(np.float32), np.arange(30) < 15
    twice, groups = np.concatenate([x, x + 1e-3]), [str(i) for i in range(30)] * 2
    honest = fit_linear(twice, np.tile(truth, 2), groups).out_of_fold
    fooled = fit_linear(twice, np.tile(truth, 2), [str(i) for i in range(60)]).out_of_fold
    assert auroc(np.tile(truth, 2), honest) < 0.75 < auroc(np.tile(truth, 2), fooled)


def test_one_class_alone_cannot_be_learned() -> None:
    with pytest.raises(ClassMissingError, match="no negative image"):
        fit_linear(POOLED, np.ones(30, bool), [str(i) for i in range(30)])


def test_an_augmentation_depends_on_seed_image_and_copy_alone() -> None:
    assert np.array_equal(augment.draw(1, "a", 2), augment.draw(1, "a", 2))
    others = [augment.draw(2, "a", 2), augment.draw(1, "b", 2), augment.draw(1, "a", 3)]
    assert not any(np.allclose(augment.draw(1, "a", 2), o) for o in others)


def test_augmentation_maps_pixels_as_it_says() -> None:
    pixels = RNG.standard_normal((2, 3, 8, 8)).astype(np.float32)
    same, mirror = np.array([[1, 0, 0], [0, 1, 0]], np.float32), np.array([[-1, 0, 0], [0, 1, 0]], np.float32)
    moved = augment.apply(pixels, [same, mirror])
    np.testing.assert_allclose(moved[0], pixels[0], atol=1e-5)
    np.testing.assert_allclose(moved[1], pixels[1, :, :, ::-1], atol=1e-5)


def test_augmentation_repeats_the_border_and_never_leaves_the_range() -> None:
    pixels = RNG.uniform(2, 3, (40, 3, 16, 16)).astype(np.float32)
    moved = augment.apply(pixels, [augment.draw(0, str(i), 1) for i in range(40)])
    assert moved.min() >= 2
    assert moved.max() <= 3
