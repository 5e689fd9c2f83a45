"""Measured photos by what makes them hard: size and number of people, cut off by the edge, without colour."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from cosmop_human_detector.nanodet import PersonBox

_EDGE = 0.01
#: Of the teacher's boxes: those that count as people.
_SURE = 0.4
_SIZES = {"largest_person_below_5_percent": (0.0, 0.05), "largest_person_5_to_20_percent": (0.05, 0.2), "largest_person_above_20_percent": (0.2, 1.01)}
_NUMBERS = {"1_person": (1, 1), "2_or_3_people": (2, 3), "4_or_more_people": (4, 10**6)}


def slices(boxes: Sequence[Sequence[PersonBox]], grey: NDArray[np.bool_]) -> dict[str, NDArray[np.bool_]]:
    """Which photos are in each slice. The boxes are a detector's, no annotation: a person that it misses is in ``no_person_located``.

    Args:
        boxes: of the people in each photo.
        grey: which photos have no colour.
    """
    sure = [[box for box in found if box.score >= _SURE] for found in boxes]
    largest = np.array([max((box.area for box in found), default=-1.0) for found in sure])
    number = np.array([len(found) for found in sure])
    cut = np.array([bool(found) and _touches_edge(max(found, key=lambda b: b.area)) for found in sure])
    parts = {name: (largest >= low) & (largest < high) for name, (low, high) in _SIZES.items()}
    parts |= {name: (number >= low) & (number <= high) for name, (low, high) in _NUMBERS.items()}
    return parts | {"largest_person_cut_off_by_the_edge": cut, "no_person_located": number == 0, "without_colour": grey}


def _touches_edge(box: PersonBox) -> bool:
    return min(box.left, box.top, 1 - box.right, 1 - box.bottom) <= _EDGE
