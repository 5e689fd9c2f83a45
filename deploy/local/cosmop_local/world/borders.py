"""Border fences: slats, mesh, walls and wire along the picture, and a checkpoint's barrier and booth."""

from __future__ import annotations

from dataclasses import dataclass

from cosmop_local.world import places, things
from cosmop_local.world.canvas import Canvas, Colour, shade

RUST: tuple[Colour, ...] = ((120, 78, 56), (96, 70, 58), (140, 96, 66))
STEEL: tuple[Colour, ...] = ((150, 154, 158), (120, 124, 130), (176, 178, 176))
CONCRETE: tuple[Colour, ...] = ((176, 172, 164), (196, 188, 174), (150, 148, 144))


@dataclass(frozen=True)
class Fence:
    """Where it stands: foot and top at the left and the right edge of the picture."""

    left: float
    right: float
    #: Its height in adults.
    tall: float

    def foot(self, canvas: Canvas, x: float) -> float:
        """The y of its foot at ``x``."""
        return self.left + (self.right - self.left) * x / canvas.width

    def top(self, canvas: Canvas, x: float) -> float:
        """The y of its upper edge at ``x``."""
        return self.foot(canvas, x) - canvas.size_at(self.foot(canvas, x)) * self.tall


def border(canvas: Canvas) -> Fence:
    """The open land with a fence through it; people are put before it (and behind, for mesh)."""
    (places.desert, places.field, places.desert)[canvas.whole(0, 2)](canvas)
    depth = canvas.height - canvas.horizon
    slope = canvas.between(-0.16, 0.16)
    middle = canvas.horizon + depth * canvas.between(0.24, 0.42)
    fence = Fence(
        max(canvas.horizon + depth * 0.12, middle - slope * depth), max(canvas.horizon + depth * 0.12, middle + slope * depth), canvas.between(1.4, 2.4)
    )
    (_slats, _mesh, _wall, _slats, _mesh)[canvas.whole(0, 4)](canvas, fence)
    if canvas.chance(0.55):
        _razor_wire(canvas, fence)
    if canvas.chance(0.35):
        _tower(canvas, fence)
    return fence


def checkpoint(canvas: Canvas) -> None:
    """A road, a booth and a striped barrier."""
    sky_and_road = (places.town, places.desert, places.field)[canvas.whole(0, 2)]
    sky_and_road(canvas)
    depth = canvas.height - canvas.horizon
    y = canvas.horizon + depth * canvas.between(0.3, 0.45)
    adult = canvas.size_at(y)
    x = canvas.between(0.15, 0.85) * canvas.width
    wall = canvas.pick(((230, 228, 220), (60, 100, 150), (70, 110, 80)))
    canvas.shadow(x, y, adult * 0.9, adult * 0.1)
    canvas.box(x - adult * 0.55, y - adult * 1.5, x + adult * 0.55, y, wall)
    canvas.box(x - adult * 0.42, y - adult * 1.25, x + adult * 0.42, y - adult * 0.7, (70, 88, 104))
    canvas.box(x - adult * 0.75, y - adult * 1.68, x + adult * 0.75, y - adult * 1.5, shade(wall, 0.6))
    way = 1 if x < canvas.width / 2 else -1
    pole_y, long = y + depth * 0.05, canvas.width * 0.6
    for step in range(10):
        colour = (196, 36, 40) if step % 2 else (240, 238, 232)
        start = x + way * (adult * 0.7 + long * step / 10)
        canvas.box(start, pole_y - adult * 0.66, start + way * long / 10, pole_y - adult * 0.56, colour)
    canvas.box(x + way * adult * 0.6, pole_y - adult * 0.8, x + way * adult * 0.8, pole_y, (60, 60, 64))


def barriers(canvas: Canvas, count: int) -> None:
    """Crowd-control barriers, concrete blocks and bags left on the ground."""
    depth = canvas.height - canvas.horizon
    for y in sorted(canvas.horizon + depth * canvas.between(0.4, 0.8) for _ in range(count)):
        x, adult = canvas.between(0, 1) * canvas.width, canvas.size_at(y)
        kind = canvas.whole(0, 2)
        if kind == 0:
            grey, half, tall = canvas.pick(STEEL), adult * 0.6, adult * 0.6
            for bar in range(9):
                left = x - half + bar * half / 4
                canvas.limb([(left, y - tall), (left, y - adult * 0.1)], max(1, adult * 0.018), grey)
            for line in (tall, adult * 0.1):
                canvas.limb([(x - half, y - line), (x + half, y - line)], max(1, adult * 0.035), grey)
        elif kind == 1:
            grey = canvas.pick(CONCRETE)
            canvas.shadow(x, y, adult * 0.6, adult * 0.08)
            canvas.shape([(x - adult * 0.55, y), (x + adult * 0.55, y), (x + adult * 0.5, y - adult * 0.4), (x - adult * 0.5, y - adult * 0.4)], grey)
            canvas.shape(
                [(x + adult * 0.1, y), (x + adult * 0.55, y), (x + adult * 0.5, y - adult * 0.4), (x + adult * 0.12, y - adult * 0.4)], shade(grey, 0.85)
            )
        else:
            cloth = canvas.pick(things.PAINTS, 30)
            canvas.shadow(x, y, adult * 0.25, adult * 0.05)
            canvas.disc(x, y - adult * 0.12, adult * 0.22, adult * 0.14, cloth)
            canvas.disc(x + adult * 0.2, y - adult * 0.1, adult * 0.14, adult * 0.1, shade(cloth, 0.7))


def _columns(canvas: Canvas, fence: Fence, gap: float) -> list[tuple[float, float, float]]:
    """x, foot and top of uprights; ``gap`` in adults."""
    found, x = [], -5.0
    while x < canvas.width + 5:
        foot = fence.foot(canvas, x)
        found.append((x, foot, fence.top(canvas, x)))
        x += max(2.0, canvas.size_at(foot) * gap)
    return found


def _slats(canvas: Canvas, fence: Fence) -> None:
    steel = canvas.pick(RUST + STEEL)
    gap = canvas.between(0.12, 0.2)
    for x, foot, top in _columns(canvas, fence, gap):
        wide = canvas.size_at(foot) * gap * 0.5
        canvas.box(x, top, x + wide, foot, shade(steel, canvas.between(0.85, 1.1)))
        canvas.box(x + wide * 0.65, top, x + wide, foot, shade(steel, 0.65))
    plate = [(0.0, fence.top(canvas, 0)), (float(canvas.width), fence.top(canvas, canvas.width))]
    drop = canvas.size_at(fence.left) * 0.25
    canvas.shape([*plate, (canvas.width, plate[1][1] + drop), (0, plate[0][1] + drop)], shade(steel, 0.9))


def _mesh(canvas: Canvas, fence: Fence) -> None:
    steel = canvas.pick(STEEL)
    gap = canvas.between(0.16, 0.24)
    for x, foot, top in _columns(canvas, fence, gap):
        reach = foot - top
        canvas.limb([(x, foot), (x + reach * 0.8, top)], 1, shade(steel, 0.8))
        canvas.limb([(x, foot), (x - reach * 0.8, top)], 1, steel)
    for x, foot, top in _columns(canvas, fence, 1.5):
        canvas.limb([(x, foot + 2), (x, top - 2)], max(2, canvas.size_at(foot) * 0.06), shade(steel, 0.7))
    for share in (0.02, 0.98):
        ends = [(x, fence.top(canvas, x) + (fence.foot(canvas, x) - fence.top(canvas, x)) * share) for x in (0.0, float(canvas.width))]
        canvas.limb(ends, max(2, canvas.size_at(fence.left) * 0.04), shade(steel, 0.75))


def _wall(canvas: Canvas, fence: Fence) -> None:
    grey = canvas.pick(CONCRETE)
    for x, foot, top in _columns(canvas, fence, 0.9):
        wide = canvas.size_at(foot) * 0.9
        foot_right, top_right = fence.foot(canvas, x + wide), fence.top(canvas, x + wide)
        canvas.shape([(x, foot), (x, top), (x + wide, top_right), (x + wide, foot_right)], shade(grey, canvas.between(0.88, 1.06)))
        canvas.limb([(x, foot), (x, top)], max(1, wide * 0.03), shade(grey, 0.6))
    for _ in range(canvas.whole(0, 3)):
        x = canvas.between(0, 1) * canvas.width
        foot, top = fence.foot(canvas, x), fence.top(canvas, x)
        colour = canvas.pick(things.PAINTS, 30)
        y = top + (foot - top) * canvas.between(0.3, 0.7)
        r = (foot - top) * 0.12
        canvas.limb([(x + canvas.between(-2, 2) * r, y + canvas.between(-1, 1) * r) for _ in range(5)], max(1, r * 0.25), colour)


def _razor_wire(canvas: Canvas, fence: Fence) -> None:
    for x, foot, top in _columns(canvas, fence, 0.13):
        r = canvas.size_at(foot) * 0.14
        canvas.draw.ellipse((x - r, top - r * 1.7, x + r, top + r * 0.3), outline=(92, 94, 98))


def _tower(canvas: Canvas, fence: Fence) -> None:
    x = canvas.between(0.1, 0.9) * canvas.width
    foot = fence.foot(canvas, x)
    adult = canvas.size_at(foot)
    steel = canvas.pick(RUST + STEEL)
    for side in (-1, 1):
        canvas.limb([(x + side * adult * 0.5, foot), (x + side * adult * 0.32, foot - adult * 2.6)], max(2, adult * 0.07), shade(steel, 0.7))
    canvas.limb([(x - adult * 0.48, foot - adult * 0.4), (x + adult * 0.36, foot - adult * 2)], max(1, adult * 0.04), shade(steel, 0.6))
    canvas.box(x - adult * 0.5, foot - adult * 3.4, x + adult * 0.5, foot - adult * 2.6, shade(steel, 0.9))
    canvas.box(x - adult * 0.4, foot - adult * 3.2, x + adult * 0.4, foot - adult * 2.9, (64, 80, 92))
    canvas.shape([(x - adult * 0.65, foot - adult * 3.4), (x + adult * 0.65, foot - adult * 3.4), (x, foot - adult * 3.8)], shade(steel, 0.6))
