"""What images of a split have in common, so that a classifier's weak sides show: size, colour, light, source, and so on.

A slice is only as fine as its evidence: bounds are few and fixed, and rare sources are told together.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from cosmop_common.datasets import ManifestRow

from cosmop_classifier.traits import Traits

#: Sources told by name; the rest are "other".
_SOURCES = 8
_SMALL, _LARGE = 200, 400
_LONGISH = 1.2
_DARK, _BRIGHT = 70.0, 180.0
#: Mean spread of the three channels, of 255, below which a picture counts as grey; JPEG's own colour noise stays below it.
_GREY = 4.0
_SOME, _MANY = 2, 5


def slices(rows: Sequence[ManifestRow], traits: Mapping[str, Traits]) -> dict[tuple[str, str], list[int]]:
    """Places of the rows in each slice, by (what it is told by, its name); empty slices do not occur.

    Args:
        rows: the images of one split.
        traits: by image; what is not known of an image leaves it out of the slices that need it.
    """
    copies = Counter(row.group for row in rows)
    sources = Counter(traits[row.image].source for row in rows if row.image in traits and traits[row.image].source)
    named = {source for source, _ in sources.most_common(_SOURCES)}
    found: dict[tuple[str, str], list[int]] = {}
    for place, row in enumerate(rows):
        words = {
            "size": _size(min(row.width, row.height)),
            "shape": _shape(row.width, row.height),
            "copies": "alone" if copies[row.group] == 1 else "with near-duplicates",
            "labellers": "1 labeller" if row.labellers <= 1 else "2 and more",
        }
        if (known := traits.get(row.image)) is not None:
            words |= {"colour": "grey" if known.chroma < _GREY else "colour", "light": _light(known.brightness)}
            if known.sightings:
                words |= {"source": known.source if known.source in named else "other", "sightings": _sightings(known.sightings)}
        for key in words.items():
            found.setdefault(key, []).append(place)
    return found


def _size(side: int) -> str:
    return f"under {_SMALL} px" if side < _SMALL else f"{_SMALL} to {_LARGE - 1} px" if side < _LARGE else f"{_LARGE} px and more"


def _shape(width: int, height: int) -> str:
    return "portrait" if height > width * _LONGISH else "landscape" if width > height * _LONGISH else "square"


def _light(brightness: float) -> str:
    return "dark" if brightness < _DARK else "bright" if brightness > _BRIGHT else "medium"


def _sightings(count: int) -> str:
    return "once" if count < _SOME else f"{_SOME} to {_MANY - 1} times" if count < _MANY else f"{_MANY} times and more"
