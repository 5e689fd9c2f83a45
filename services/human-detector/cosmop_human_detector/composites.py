"""Composites: photos pasted small into scenes without people, and grids of photos, for fitting a head that looks for people everywhere.

In most photographs that are at hand the person is large and in the middle; the head that learns from those learns the scene around them.
A composite has a small subject in a scene of another photo. Half of the subjects show people, half do not, pasted the same way: neither
an edge nor the composition tells them apart. After Dwibedi et al., "Cut, paste and learn", ICCV 2017, and the mosaics of Bochkovskiy
et al., "YOLOv4", 2020, section 3.3; here whole photos are pasted, as no masks are at hand.
"""

from __future__ import annotations

import io
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from PIL import Image

from cosmop_human_detector.nanodet import PersonBox

#: The pasted photo's shorter side, as a share of the scene's.
_SHARES = (0.2, 0.5)
#: Of a tile, in pixels, for grids of 2 x 2 and 3 x 3.
_TILES = {2: (150, 200), 3: (134,)}
_GREY = 0.1


@dataclass(frozen=True)
class Subject:
    """A photo that composites are made of."""

    source: str
    people: bool
    #: Where its people are.
    boxes: tuple[PersonBox, ...]


@dataclass(frozen=True)
class Composite:
    """An encoded composite."""

    data: bytes
    people: bool
    #: Of the people in it; that of the scenes is none.
    source: str
    boxes: tuple[PersonBox, ...]
    #: The subject's share of the picture.
    share: float


def compose(subjects: Sequence[Subject], picture: Callable[[int], Image.Image], count: int, seed: int) -> list[Composite]:
    """Makes composites, every second one with people. The same arguments make the same ones.

    Args:
        picture: the decoded image of a subject, by index.
    """
    chance = random.Random(seed)  # noqa: S311 - pictures, not secrets
    scenes = [i for i, subject in enumerate(subjects) if not subject.people]
    # A subject whose people nobody has located would teach that they are nowhere.
    by_source: dict[str, list[int]] = {}
    for i, subject in enumerate(subjects):
        if subject.people and subject.boxes:
            by_source.setdefault(subject.source, []).append(i)
    made = []
    for number in range(count):
        people = number % 2 == 0
        chosen = chance.choice(by_source[chance.choice(sorted(by_source))]) if people else chance.choice(scenes)
        pasted = chance.random() < 0.5  # noqa: PLR2004 - as many pasted ones as grids
        image, frame = _paste(picture, chosen, scenes, chance) if pasted else _grid(picture, chosen, scenes, chance)
        if chance.random() < _GREY:
            image = image.convert("L").convert("RGB")
        sink = io.BytesIO()
        image.save(sink, "JPEG", quality=90)
        boxes = tuple(_within(box, frame) for box in subjects[chosen].boxes) if people else ()
        made.append(Composite(sink.getvalue(), people, subjects[chosen].source if people else "", boxes, frame.area))
    return made


def _paste(picture: Callable[[int], Image.Image], subject: int, scenes: Sequence[int], chance: random.Random) -> tuple[Image.Image, PersonBox]:
    image, small = picture(chance.choice(scenes)).copy(), picture(subject)
    scale = chance.uniform(*_SHARES) * min(image.size) / min(small.size)
    size = (min(image.width, max(8, round(small.width * scale))), min(image.height, max(8, round(small.height * scale))))
    left, top = chance.randint(0, image.width - size[0]), chance.randint(0, image.height - size[1])
    image.paste(small.resize(size, Image.Resampling.BICUBIC), (left, top))
    return image, PersonBox(left / image.width, top / image.height, (left + size[0]) / image.width, (top + size[1]) / image.height, 1)


def _grid(picture: Callable[[int], Image.Image], subject: int, scenes: Sequence[int], chance: random.Random) -> tuple[Image.Image, PersonBox]:
    side = chance.choice(sorted(_TILES))
    tile = chance.choice(_TILES[side])
    slot = chance.randrange(side * side)
    image = Image.new("RGB", (side * tile, side * tile))
    for i in range(side * side):
        part = picture(subject if i == slot else chance.choice(scenes))
        image.paste(part.resize((tile, tile), Image.Resampling.BICUBIC), (i % side * tile, i // side * tile))
    left, top = slot % side / side, slot // side / side
    return image, PersonBox(left, top, left + 1 / side, top + 1 / side, 1)


def _within(box: PersonBox, frame: PersonBox) -> PersonBox:
    """A box of the pasted photo in the picture that it was pasted into."""
    width, height = frame.right - frame.left, frame.bottom - frame.top
    return PersonBox(
        frame.left + box.left * width, frame.top + box.top * height, frame.left + box.right * width, frame.top + box.bottom * height, box.score
    )  # fmt: skip
