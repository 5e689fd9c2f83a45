"""The experiment's arithmetic: what each seed trains on, paired intervals that say what is so, and the sentences made of them."""

from __future__ import annotations

import numpy as np
import pytest
from cosmop_classifier.experiment_cells import Draw, Material, Part, between, draw, fit_cell, taken
from cosmop_classifier.experiment_outcome import Asked, conclude, note, sentence
from cosmop_classifier.experiment_plan import BINARY, ONE_CLASS, Condition, ExperimentError, ExperimentOptions, check_experiment, conditions, ratios_that_fit
from cosmop_classifier.experiment_statistics import Draws, measure_draws, share_called, value_of, verdict
from cosmop_common.experiment_records import CellRecord, ServedWord
from cosmop_common.pb.cosmop.v1 import runs_pb2
from cosmop_common.records import Value
from sklearn.metrics import average_precision_score, roc_auc_score

RNG = np.random.default_rng(7)


def test_measures_agree_with_scikit_learn() -> None:
    truth, score = RNG.random(60) < 0.4, np.round(RNG.random(60), 1)
    weights = RNG.integers(0, 3, (4, 60)).astype(float)
    found = measure_draws(truth, score >= 0.5, score, weights)
    for row, w in enumerate(weights):
        assert found["auroc"][row] == pytest.approx(roc_auc_score(truth, score, sample_weight=w))
        assert found["average_precision"][row] == pytest.approx(average_precision_score(truth, score, sample_weight=w))
        assert found["accuracy"][row] == pytest.approx(np.average(truth == (score >= 0.5), weights=w))


def test_near_duplicates_and_seeds_are_drawn_whole() -> None:
    draws = Draws.make(["a", "a", "b", "c"], seeds=3)
    assert np.array_equal(draws.images[:, 0], draws.images[:, 1])
    assert np.allclose(draws.seeds.sum(axis=1), 1)
    assert draws.images[0].tolist() == [1, 1, 1, 1]
    # A seed that was not drawn may be undefined: it has no say.
    undefined = np.where(draws.seeds[:, 0] > 0, 1.0, np.nan)
    assert np.isfinite(draws.average([undefined, np.ones(len(undefined)), np.ones(len(undefined))])).all()


@pytest.mark.parametrize(("effect", "expected"), [(0.0, "no difference could be shown"), (0.6, "helps"), (-0.6, "hurts")])
def test_an_effect_is_found_and_none_is_not_invented(effect: float, expected: str) -> None:
    truth = np.arange(160) % 2 == 0
    cells = {}
    for seed in range(5):
        base = truth * 1.0 + RNG.normal(0, 1, 160)
        for condition in conditions([1.0], 1):
            added = effect if condition.name == "synthetic-1" else 0.0
            scores = base + truth * added + RNG.normal(0, 0.3, 160)
            cells[f"{BINARY}-{condition.name}-{seed}"] = CellRecord(
                cell="c", images={"positive": 5}, threshold=0.5, scores=scores.tolist(), synthetic_called=[True, False, True, True]
            )
    asked = Asked([BINARY], conditions([1.0], 1), 5, truth, [str(i) for i in range(160)])
    rows, findings = conclude(asked, cells)
    finding = findings[BINARY]
    assert finding.verdict == expected
    assert expected in finding.sentence
    assert finding.synthetic_called.value == 0.75
    paired = next(r for r in rows if r.condition == "synthetic-1")
    width = np.diff(paired.differences["auroc"].interval)[0]
    assert width < np.diff(paired.metrics["auroc"].interval)[0], "the same images and seeds: a difference is surer than the values"


def test_seeds_keep_near_duplicates_together_and_differ() -> None:
    truth = np.arange(40) < 20
    groups = [str(i // 2) for i in range(40)]
    draws = [draw(truth, groups, 30, 0.8, 0, number) for number in range(3)]
    for chosen in draws:
        assert len(chosen.train) == 32
        kept = {groups[i] for i in chosen.train}
        assert [i for i in range(40) if groups[i] in kept] == chosen.train.tolist()
        assert sorted(chosen.synthetic) == list(range(30))
    assert len({tuple(d.train) for d in draws}) == 3
    assert np.array_equal(draw(truth, groups, 30, 0.8, 0, 1).train, draws[1].train)


def test_ratios_are_nested_and_the_filter_takes_what_passed() -> None:
    chosen = Draw(0, np.arange(4), np.array([3, 0, 2, 1, 4]))
    assert taken(Condition("a", "a", ratio=0.5), chosen, 4, None).tolist() == [3, 0]
    assert taken(Condition("a", "a", ratio=1.0), chosen, 4, None).tolist() == [3, 0, 2, 1]
    passed = [True, False, False, True, True]
    assert taken(Condition("f", "f", ratio=1.0, filtered=True), chosen, 4, passed).tolist() == [3, 0, 4]


def test_a_one_class_threshold_does_not_count_an_image_s_own_copies() -> None:
    pooled = np.abs(RNG.standard_normal((20, 16))).astype(np.float32)
    part = Part(pooled, np.ones(20, dtype=bool), [str(i) for i in range(20)])
    material = Material(part, part, part, part, [pooled * 1.0])
    chosen = Draw(0, np.arange(20), np.arange(20))
    real, copied = (fit_cell(ONE_CLASS, Condition("c", "c", copies=c), material, chosen, ExperimentOptions(), None) for c in (False, True))
    assert copied.threshold < 0.9999, "a copy of itself would be its nearest neighbour"
    assert copied.images["augmented"] == 20
    assert real.images["synthetic"] == 0


def test_models_of_another_recipe_may_call_another_share_and_the_note_says_why() -> None:
    # Two classes far apart in one direction, synthetic images between them along another that only the copies hold to.
    rng = np.random.default_rng(5)
    truth = np.arange(80) % 2 == 0
    pooled = np.stack([np.where(truth, 4.0, -4.0) + rng.normal(0, 1, 80), rng.normal(0, 2, 80)], axis=1).astype(np.float32)
    part = Part(pooled, truth, [str(i) for i in range(80)])
    blob = Part(
        np.tile(np.float32([1.0, -4.0]), (20, 1)) + rng.normal(0, 0.1, (20, 2)).astype(np.float32), np.ones(20, dtype=bool), [str(i) for i in range(20)]
    )
    # In the copies, the second direction goes with the class: what lies low in it is negative.
    copies = [pooled + np.stack([np.zeros(80), np.where(truth, 4.0, -4.0)], axis=1).astype(np.float32)]
    material = Material(part, part, part, blob, copies)
    tried = conditions([1.0], 1)[:3]
    chosen = Draw(0, np.arange(80), np.arange(20))
    cells = {f"{BINARY}-{c.name}-0": fit_cell(BINARY, c, material, chosen, ExperimentOptions(), None) for c in tried}
    assert [cells[f"{BINARY}-{name}-0"].synthetic_called is None for name in ("real", "classical", "synthetic-1")] == [False, False, True]
    served = ServedWord(
        model="c-binary/v1", recipe="frozen network, linear head; real images, 1 augmented copy of each", called=Value(value=0.0), uncertain=0.4
    )
    finding = conclude(Asked([BINARY], tried, 1, truth, part.groups), cells, {BINARY: served})[1][BINARY]
    assert finding.synthetic_called.value == 1.0
    assert finding.synthetic_called_copies is not None
    assert finding.synthetic_called_copies.value == 0.0
    assert finding.synthetic_between == (1.0, 1.0)
    assert finding.served == served
    assert "trained on augmented copies as well, they call 0 % of these images positive" in finding.synthetic_note
    assert "1 augmented copy of each) calls 0 %" in finding.synthetic_note
    assert "above 100 % of the negative and below 100 % of the positive test images: it lies in the gap" in finding.synthetic_note
    agreed = finding.model_copy(update={"synthetic_called": Value(value=0.0)})
    assert note(agreed) == "", "shares that agree need no words"
    assert "gap" not in note(finding.model_copy(update={"synthetic_between": (0.1, 1.0)})), "only what was measured is said"


def test_where_an_image_lies_needs_no_scale() -> None:
    test, truth = np.array([-3.0, -1.0, 1.0, 3.0]), np.array([False, False, True, True])
    assert between(np.array([-2.0, 0.0, 9.0]), test, truth) == (1.0, 1.0)
    assert between(np.array([2.0]), test, truth) == (1.0, 0.5)
    assert between(np.exp([2.0]), np.exp(test), truth) == (1.0, 0.5)
    assert between(np.array([2.0]), test, np.ones(4, dtype=bool)) is None


def test_all_or_none_called_still_has_an_interval() -> None:
    assert share_called([[True] * 26] * 3).method == "wilson"
    value = share_called([[False] * 20, [False] * 20])
    assert (value.value, value.method) == (0.0, "wilson")
    assert value.interval is not None
    assert value.interval[1] > 0.1
    assert value_of(np.array([np.nan, 1.0]), 3).value is None
    assert verdict(Value(value=None)) == "no difference could be shown"


def test_sentences_are_plain() -> None:
    before = Value(value=0.95)
    said = sentence("the binary classifier", "hurts", 1.0, Value(value=-0.02, interval=(-0.03, -0.01)), before)
    assert said.replace("\u2212", "-") == (
        "Adding 1 synthetic image for each real positive one hurts the binary classifier: AUROC 0.950 on real images alone, changed by -0.020 [-0.030, -0.010]."
    )
    nothing = sentence("the one-class classifier", verdict(Value(value=0.0, interval=(0.0, 0.0))), 0.5, Value(value=0.0, interval=(0.0, 0.0)), before)
    assert "no difference could be shown for the one-class classifier" in nothing
    assert "so unlike real ones" in nothing


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"gan_run": ""}, "gan_run is empty"),
        ({"synthetic": "g-s"}, "expected synthetic:<run>"),
        ({"seeds": 101}, "expected 1 to 100"),
        ({"ratios": [float("nan")]}, "ratio nan"),
        ({"ratios": [-1.0]}, "more than 0"),
        ({"options": {"copies": "0"}}, "at least 1"),
        ({"options": {"copies": "x"}}, "expected a number"),
        ({"options": {"classifiers": "binary,tree"}}, "expected some of"),
    ],
)
def test_a_job_that_cannot_be_says_why(fields: dict, message: str) -> None:
    job = runs_pb2.AugmentationExperimentJob(**({"dataset": "c/v1", "gan_run": "g", "network": "efficientnet_lite0"} | fields))
    with pytest.raises(ExperimentError, match=message):
        check_experiment(job)


def test_ratios_follow_what_a_set_holds() -> None:
    job = runs_pb2.AugmentationExperimentJob(dataset="c/v1", gan_run="g", network="efficientnet_lite0")
    plan = check_experiment(job)
    assert ratios_that_fit(plan, 100, 150) == (0.5, 1.0)
    assert ratios_that_fit(plan, 100, 30) == (0.3,)
