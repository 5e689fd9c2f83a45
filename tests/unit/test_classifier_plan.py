"""Training jobs: read with every field checked, and planned the same on every machine."""

from __future__ import annotations

import pytest
from cosmop_classifier.plan import Options, check_job, effort
from cosmop_classifier.registry import version_of
from cosmop_common.errors import InvalidInputError
from cosmop_common.pb.cosmop.v1 import runs_pb2


def job(**fields) -> runs_pb2.TrainClassifierJob:
    return runs_pb2.TrainClassifierJob(**({"dataset": "c/v1", "kind": "binary"} | fields))


def test_the_default_is_the_paper() -> None:
    plan = check_job(job())
    assert (plan.network, plan.collection, plan.options) == ("resnet50", "c", Options())


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"dataset": "c"}, "'c' names no dataset version"),
        ({"kind": "both"}, "kind 'both': expected 'binary' or 'one_class'"),
        ({"network": "resnet51"}, "there is no network 'resnet51'"),
        ({"max_seconds": -1}, "max_seconds is -1"),
        ({"options": {"copys": "1"}}, "option 'copys' is not known; known are activate, alpha"),
        ({"options": {"copies": "many"}}, "option copies='many': expected a whole number"),
        ({"options": {"copies": "-2"}}, "expected at least -1"),
        ({"options": {"alpha": "1"}}, "expected a share between 0 and 1"),
        ({"options": {"method": "forest"}}, "expected one of knn, mahalanobis, logistic, patches, svm"),
        ({"options": {"goal": "best"}}, "goal 'best'"),
        ({"options": {"real": "no"}}, "needs synthetic images"),
        ({"synthetic": "run-1"}, "synthetic 'run-1': expected an image set"),
    ],
)
def test_what_is_wrong_is_said(fields, message) -> None:
    with pytest.raises(InvalidInputError) as failed:
        check_job(job(**fields))
    assert message in str(failed.value)


def test_a_small_budget_takes_a_frozen_network_and_some_copies() -> None:
    plan = check_job(job(network="efficientnet_lite0", max_seconds=90))
    assert effort(plan, 430, 614, cuda=False) == (3, 0)


def test_no_budget_takes_all_and_a_tiny_one_nothing_but_the_images() -> None:
    assert effort(check_job(job()), 430, 614, cuda=False) == (8, 12)
    assert effort(check_job(job(max_seconds=5)), 430, 614, cuda=False) == (0, 0)


def test_the_jobs_own_word_goes_first() -> None:
    plan = check_job(job(max_seconds=5, options={"copies": "2", "epochs": "1"}))
    assert effort(plan, 430, 614, cuda=False) == (2, 1)
    assert effort(check_job(job(options={"augmentation": "none"})), 430, 614, cuda=False)[0] == 0


def test_the_version_is_of_what_goes_in_and_not_of_how_long_it_may_take() -> None:
    one, other = check_job(job(max_seconds=10)), check_job(job(max_seconds=20))
    assert version_of(one.inputs()) == version_of(other.inputs())
    assert version_of(one.inputs()) != version_of(check_job(job(seed=1)).inputs())
