"""What every drawing stands on: a picture in perspective, colours, rough outlines and textures, all from one seeded generator."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

Colour = tuple[int, int, int]
Point = tuple[float, float]
#: A grid whose cells are wider than so many pixels is coarse.
_COARSE = 16


@dataclass
class Canvas:
    """A picture being drawn. Lengths are in its pixels; y grows downwards."""

    image: Image.Image
    rng: np.random.Generator
    #: y of the horizon.
    horizon: float
    #: Height of an adult whose feet are one pixel below the horizon: the eye's height decides it.
    adult: float

    @property
    def width(self) -> int:
        """In pixels."""
        return self.image.width

    @property
    def height(self) -> int:
        """In pixels."""
        return self.image.height

    @property
    def draw(self) -> ImageDraw.ImageDraw:
        """Pillow's pen on the picture."""
        return ImageDraw.Draw(self.image)

    def size_at(self, y: float) -> float:
        """Height of an adult whose feet stand at ``y``."""
        return max(4.0, (y - self.horizon) * self.adult)

    def between(self, low: float, high: float) -> float:
        """A random number."""
        return float(self.rng.uniform(low, high))

    def whole(self, low: int, high: int) -> int:
        """A random whole number, both ends included."""
        return int(self.rng.integers(low, high + 1))

    def chance(self, share: float) -> bool:
        """True in ``share`` of all cases."""
        return bool(self.rng.random() < share)

    def pick(self, colours: Sequence[Colour], spread: int = 14) -> Colour:
        """One of the colours, a little changed."""
        return vary(colours[int(self.rng.integers(len(colours)))], self.rng, spread)

    def limb(self, points: Sequence[Point], width: float, colour: Colour) -> None:
        """A thick line with round joints and ends."""
        pen, r = self.draw, max(0.5, width / 2)
        pen.line([xy for p in points for xy in p], fill=colour, width=max(1, round(width)))
        for x, y in points:
            pen.ellipse((x - r, y - r, x + r, y + r), fill=colour)

    def box(self, x0: float, y0: float, x1: float, y1: float, colour: Colour) -> None:
        """A filled rectangle, whichever corner comes first."""
        self.draw.rectangle((min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1)), fill=colour)

    def disc(self, x: float, y: float, rx: float, ry: float, colour: Colour) -> None:
        """A filled ellipse round (x, y)."""
        self.draw.ellipse((x - rx, y - ry, x + rx, y + ry), fill=colour)

    def shape(self, points: Sequence[Point], colour: Colour) -> None:
        """A filled polygon."""
        self.draw.polygon(list(points), fill=colour)

    def blend(self, mask: Image.Image, colour: Colour) -> None:
        """Lays a colour over the picture where the mask (mode L) says, as strongly as it says."""
        self.image.paste(colour, (0, 0), mask)

    def shadow(self, x: float, y: float, rx: float, ry: float, strength: int = 70) -> None:
        """A soft dark spot on the ground."""
        box = (int(x - rx), int(y - ry), int(x + rx) + 1, int(y + ry) + 1)
        mask = Image.new("L", (box[2] - box[0], box[3] - box[1]), 0)
        ImageDraw.Draw(mask).ellipse((0, 0, *mask.size), fill=strength)
        self.image.paste((20, 18, 24), box[:2], mask)


def vary(colour: Colour, rng: np.random.Generator, spread: int = 14) -> Colour:
    """A colour near another."""
    red, green, blue = rng.integers(-spread, spread + 1, 3).tolist()
    return _clip(colour[0] + red), _clip(colour[1] + green), _clip(colour[2] + blue)


def shade(colour: Colour, factor: float) -> Colour:
    """A colour darker (factor < 1) or lighter (> 1)."""
    return _clip(colour[0] * factor), _clip(colour[1] * factor), _clip(colour[2] * factor)


def _clip(value: float) -> int:
    return min(255, max(0, int(value)))


def mix(a: Colour, b: Colour, share: float) -> Colour:
    """``a`` with a ``share`` of ``b``."""
    return tuple(round(x * (1 - share) + y * share) for x, y in zip(a, b, strict=True))  # type: ignore[return-value]


def noise(rng: np.random.Generator, width: int, height: int, cells: Sequence[tuple[int, int, float]]) -> NDArray[np.float32]:
    """Smooth noise about 0, shape (height, width): a sum of random grids of (columns, rows), each with its weight."""
    total = np.zeros((height, width), np.float32)
    # Coarse grids are summed at a quarter of the size: nobody sees the difference, and it is an eighth of the work.
    small = (max(2, width // 4), max(2, height // 4))
    coarse = np.zeros((small[1], small[0]), np.float32)
    for columns, rows, weight in cells:
        grid = Image.fromarray(rng.random((max(2, rows), max(2, columns)), np.float32) - np.float32(0.5))
        if columns * _COARSE <= width:
            coarse += np.asarray(grid.resize(small, Image.Resampling.BICUBIC)) * np.float32(weight)
        else:
            total += np.asarray(grid.resize((width, height), Image.Resampling.BILINEAR)) * np.float32(weight)
    total += np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BILINEAR))
    return total


def outline(rng: np.random.Generator, width: int, base: float, swing: float, waves: int, rough: float) -> list[Point]:
    """A hilly line from left to right: long waves of height ``swing`` and small ones of ``rough``."""
    x = np.linspace(0, width, 96)
    y = np.full_like(x, base)
    for octave, share in ((waves, swing), (waves * 3, swing / 3), (30, rough)):
        knots = rng.uniform(-1, 1, octave + 2)
        y += share * np.interp(x, np.linspace(0, width, octave + 2), knots)
    return [(float(a), float(b)) for a, b in zip(x, y, strict=True)]


def textured(rng: np.random.Generator, top: Colour, bottom: Colour, width: int, height: int, cells: Sequence[tuple[int, int, float]]) -> Image.Image:
    """A surface from one colour above to another below, roughened by noise."""
    width, height = max(1, width), max(1, height)
    slope = np.linspace(0, 1, height, dtype=np.float32)[:, None]
    colours = np.asarray(top, np.float32) * (1 - slope) + np.asarray(bottom, np.float32) * slope
    picture = colours[:, None, :] * (1 + noise(rng, width, height, cells))[:, :, None]
    return Image.fromarray(np.clip(picture, 0, 255, out=picture).astype(np.uint8))
