"""The shipped head's recipe in small: where people are, composites, slices, the threshold, and a head that finds the sign in one cell."""

from __future__ import annotations

import dataclasses
import io

import numpy as np
import pytest
from cosmop_human_detector.composites import Subject, compose
from cosmop_human_detector.heads import HeadShape
from cosmop_human_detector.localised import Basis, Cells, fit, targets
from cosmop_human_detector.measures import auroc
from cosmop_human_detector.nanodet import PersonBox
from cosmop_human_detector.ship import FALSE_ALARMS, choose, score
from cosmop_human_detector.slices import slices
from PIL import Image

WHOLE = PersonBox(0.1, 0.1, 0.9, 0.9, 0.9)


def test_sure_boxes_are_people_doubtful_ones_and_rims_say_nothing() -> None:
    known = targets([PersonBox(0.0, 0.0, 0.39, 0.39, 0.9), PersonBox(0.6, 0.6, 1.0, 1.0, 0.2)], 10).reshape(10, 10)
    assert (known[:4, :4] == 1).all()
    assert (known[7:, 7:] == -1).all()
    assert (known[:5, 6:] == 0).all()
    # A person between the centres of cells is in the nearest one.
    tiny = targets([PersonBox(0.46, 0.46, 0.52, 0.52, 0.9)], 10)
    assert (tiny == 1).sum() >= 1


def test_composites_are_the_same_again_and_hold_the_subject_where_they_say() -> None:
    colours = ["black", "black", "white"]
    subjects = [Subject("scenes", people=False, boxes=()), Subject("scenes", people=False, boxes=()), Subject("a", people=True, boxes=(WHOLE,))]
    made = compose(subjects, lambda i: Image.new("RGB", (120, 100), colours[i]), 40, seed=3)
    assert made == compose(subjects, lambda i: Image.new("RGB", (120, 100), colours[i]), 40, seed=3)
    for number, composite in enumerate(made):
        light = np.asarray(Image.open(io.BytesIO(composite.data)).convert("L"), float) / 255
        assert composite.people == (number % 2 == 0)
        assert light.mean() == pytest.approx(composite.share if composite.people else 0, abs=0.03)
        for box in composite.boxes:
            height, width = light.shape
            assert light[int((box.top + box.bottom) / 2 * height), int((box.left + box.right) / 2 * width)] > 0.9


def test_slices_are_by_the_largest_sure_person() -> None:
    edge = PersonBox(0.0, 0.2, 0.1, 0.4, 0.8)
    found = slices([[WHOLE, edge], [edge], [PersonBox(0.4, 0.4, 0.6, 0.6, 0.2)], []], np.array([False, True, False, False]))
    assert found["largest_person_above_20_percent"].tolist() == [True, False, False, False]
    assert found["largest_person_below_5_percent"].tolist() == [False, True, False, False]
    assert found["largest_person_cut_off_by_the_edge"].tolist() == [False, True, False, False]
    assert found["no_person_located"].tolist() == [False, False, True, True]
    assert found["2_or_3_people"].tolist() == [True, False, False, False]


def test_the_threshold_leaves_room_for_people_that_score_lower() -> None:
    chance = np.random.default_rng(0)
    scores = np.concatenate([chance.beta(8, 1, 400), chance.beta(1, 8, 400)])
    people = np.arange(800) < 400
    threshold = choose(scores, people)
    assert threshold.false_alarm_rate <= FALSE_ALARMS + 0.01
    assert threshold.miss_rate == (scores[:400] < threshold.value).mean()
    assert threshold.miss_rate_bound > threshold.miss_rate
    assert threshold.band[0] <= threshold.value <= threshold.band[1]


def test_a_head_that_is_told_where_people_are_leans_less_on_the_scene() -> None:
    """The scene (channel 0) goes with people in the photos; only channel 1, in the person's cell, is the human."""
    chance = np.random.default_rng(0)

    def photos(count: int, scene: bool) -> Cells:
        people = np.arange(count) % 2 == 0
        maps = chance.normal(0, 0.3, (count, 36, 8)).astype(np.float16)
        known = np.zeros((count, 36), np.int8)
        for i in np.flatnonzero(people):
            cell = int(chance.integers(36))
            maps[i, cell, 1] += 3
            known[i, cell] = 1
        maps[:, :, 0] += (people if scene else ~people)[:, None].astype(np.float16)
        return Cells(maps, people, np.where(people, "a", ""), known)

    shape = HeadShape(window=2)
    fitted = photos(200, scene=True)
    head = fit(fitted, photos(100, scene=False), Basis.of(fitted.maps), shape)
    other = photos(100, scene=False)
    told = auroc(score(head, other.maps), other.people).value or 0.0
    untold = dataclasses.replace(fitted, targets=np.full_like(fitted.targets, -1))
    blind = auroc(score(fit(untold, untold, Basis.of(fitted.maps), shape), other.maps), other.people).value or 0.0
    # There the scene speaks against people as loudly as it spoke for them: who knows only the scene is always wrong.
    assert blind < 0.1
    assert told > blind + 0.3
