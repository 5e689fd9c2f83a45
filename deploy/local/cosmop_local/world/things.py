"""What stands about: trees, houses, cars, animals, tents, boats, rocks. Sizes follow the perspective: an adult's height at the same place."""

from __future__ import annotations

import math

from cosmop_local.world.canvas import Canvas, Colour, shade

GREENS: tuple[Colour, ...] = ((62, 98, 46), (84, 118, 52), (48, 84, 60), (108, 128, 62), (40, 70, 38))
AUTUMN: tuple[Colour, ...] = ((176, 110, 40), (160, 72, 36), (190, 150, 60), (120, 100, 50))
WALLS: tuple[Colour, ...] = ((222, 208, 184), (196, 176, 150), (180, 92, 72), (216, 216, 210), (150, 160, 170), (228, 196, 140))
ROOFS: tuple[Colour, ...] = ((140, 62, 46), (84, 72, 70), (110, 84, 60), (64, 74, 90))
PAINTS: tuple[Colour, ...] = ((180, 34, 38), (36, 62, 120), (214, 214, 216), (40, 42, 46), (150, 154, 160), (204, 164, 40), (40, 96, 80))


def tree(canvas: Canvas, x: float, y: float) -> None:
    """A leafy one, a pine or a palm."""
    adult = canvas.size_at(y)
    kind = canvas.whole(0, 4)
    if kind == 0:
        _pine(canvas, x, y, adult * canvas.between(2, 4))
    elif kind == 1:
        _palm(canvas, x, y, adult * canvas.between(2, 3.5))
    else:
        _leafy(canvas, x, y, adult * canvas.between(1.8, 3.4))


def _leafy(canvas: Canvas, x: float, y: float, tall: float) -> None:
    leaf = canvas.pick(AUTUMN if canvas.chance(0.2) else GREENS)
    canvas.shadow(x, y, tall * 0.3, tall * 0.05)
    canvas.limb([(x, y), (x + tall * canvas.between(-0.04, 0.04), y - tall * 0.5)], tall * 0.07, canvas.pick(((92, 68, 48), (70, 54, 42))))
    for layer in (0.7, 0.88, 1.0, 1.16):
        for _ in range(7):
            angle, far = canvas.between(0, 2 * math.pi), canvas.between(0.02, 0.24) * tall
            lift = 0.05 * tall * (layer - 0.7)
            r = tall * canvas.between(0.07, 0.15)
            canvas.disc(x + math.cos(angle) * far - lift, y - tall * 0.68 + math.sin(angle) * far * 0.9 - lift * 2, r, r * 0.85, shade(leaf, layer))


def _pine(canvas: Canvas, x: float, y: float, tall: float) -> None:
    leaf = canvas.pick(((36, 66, 48), (48, 78, 50), (30, 56, 54)))
    canvas.shadow(x, y, tall * 0.18, tall * 0.03)
    canvas.box(x - tall * 0.02, y - tall * 0.2, x + tall * 0.02, y, (80, 58, 42))
    for step in range(6):
        base, half = y - tall * (0.1 + 0.145 * step), tall * (0.2 - 0.03 * step)
        canvas.shape([(x - half, base), (x + half, base), (x, base - tall * 0.24)], shade(leaf, 0.8 + 0.08 * step))
        canvas.shape([(x, base - tall * 0.24), (x - half, base), (x - half * 0.3, base)], shade(leaf, 1.05 + 0.08 * step))


def _palm(canvas: Canvas, x: float, y: float, tall: float) -> None:
    lean = canvas.between(-0.15, 0.15) * tall
    canvas.shadow(x, y, tall * 0.15, tall * 0.03)
    canvas.limb([(x, y), (x + lean * 0.4, y - tall * 0.5), (x + lean, y - tall * 0.9)], tall * 0.045, (128, 102, 74))
    leaf = canvas.pick(GREENS)
    for step in range(9):
        angle = math.pi * (step / 8) + canvas.between(-0.1, 0.1)
        reach = tall * canvas.between(0.26, 0.36)
        tip = (x + lean + math.cos(angle) * reach, y - tall * 0.9 - math.sin(angle) * reach * 0.45 + tall * 0.06)
        middle = (x + lean + math.cos(angle) * reach * 0.5, y - tall * 0.94 - math.sin(angle) * reach * 0.5)
        canvas.limb([(x + lean, y - tall * 0.9), middle, tip], tall * 0.03, shade(leaf, canvas.between(0.75, 1.15)))


def bush(canvas: Canvas, x: float, y: float) -> None:
    """Low scrub."""
    adult, leaf = canvas.size_at(y), canvas.pick(GREENS)
    for layer in (0.75, 0.95, 1.1):
        for _ in range(4):
            r = adult * canvas.between(0.1, 0.22)
            canvas.disc(x + canvas.between(-0.3, 0.3) * adult, y - r * layer, r, r * 0.8, shade(leaf, layer))


def rock(canvas: Canvas, x: float, y: float) -> None:
    """A boulder."""
    size, grey = canvas.size_at(y) * canvas.between(0.2, 0.6), canvas.pick(((130, 124, 118), (150, 130, 110), (104, 104, 108)))
    points = [
        (x + math.cos(a) * size * canvas.between(0.75, 1.1), y - size * 0.3 + math.sin(a) * size * canvas.between(0.4, 0.55))
        for a in (0, 0.8, 1.6, 2.4, 3.2, 4, 4.8, 5.6)
    ]
    canvas.shape(points, grey)
    canvas.shape([points[i] for i in (4, 5, 6)] + [(x, y - size * 0.3)], shade(grey, 1.22))
    canvas.shape([points[i] for i in (0, 1, 2)] + [(x, y - size * 0.3)], shade(grey, 0.72))


def house(canvas: Canvas, x: float, y: float) -> None:
    """With a roof, a door and windows."""
    adult = canvas.size_at(y)
    wide, tall = adult * canvas.between(2.4, 4.5), adult * canvas.between(1.6, 3)
    wall, roof = canvas.pick(WALLS), canvas.pick(ROOFS)
    canvas.shadow(x, y, wide * 0.6, adult * 0.12)
    canvas.box(x - wide / 2, y - tall, x + wide / 2, y, wall)
    canvas.box(x + wide * 0.2, y - tall, x + wide / 2, y, shade(wall, 0.85))
    peak = tall * canvas.between(0.3, 0.6)
    canvas.shape([(x - wide * 0.56, y - tall), (x + wide * 0.56, y - tall), (x + wide * 0.3, y - tall - peak), (x - wide * 0.3, y - tall - peak)], roof)
    for step in range(4):
        line = y - tall - peak * step / 4
        canvas.box(x - wide * (0.54 - 0.06 * step), line - 1, x + wide * (0.54 - 0.06 * step), line, shade(roof, 0.8))
    door = x + wide * canvas.between(-0.3, 0.3)
    canvas.box(door - adult * 0.22, y - adult * 1.1, door + adult * 0.22, y, shade(roof, 0.7))
    for column in range(canvas.whole(2, 4)):
        for row in range(2 if tall > adult * 2.2 else 1):
            wx, wy = x - wide * 0.38 + column * wide * 0.24, y - tall * (0.55 if row == 0 else 0.92)
            if abs(wx + adult * 0.15 - door) > adult * 0.4 or row:
                canvas.box(wx - 2, wy - 2, wx + adult * 0.32 + 2, wy + adult * 0.4 + 2, shade(wall, 1.2))
                canvas.box(wx, wy, wx + adult * 0.32, wy + adult * 0.4, canvas.pick(((70, 92, 112), (50, 60, 74), (210, 190, 120))))


def car(canvas: Canvas, x: float, y: float) -> None:
    """Seen from its side: a saloon or a van."""
    adult, paint, way = canvas.size_at(y), canvas.pick(PAINTS), -1 if canvas.chance(0.5) else 1
    long, tall = adult * canvas.between(2.3, 2.8), adult * 0.42
    van = canvas.chance(0.3)
    canvas.shadow(x, y, long * 0.55, adult * 0.1, 110)
    low = y - adult * 0.16
    roof = low - tall * (2.3 if van else 1.95)
    canvas.draw.rounded_rectangle((x - long / 2, low - tall, x + long / 2, low), radius=tall * 0.3, fill=paint)
    front, back = (0.3, -0.48) if van else (0.2, -0.36)
    cabin = [
        (x + way * long * back, low - tall * 0.9),
        (x + way * long * (back + 0.1), roof),
        (x + way * long * (front - 0.12), roof),
        (x + way * long * (front + 0.06), low - tall * 0.9),
    ]
    canvas.shape(cabin, shade(paint, 0.9))
    glass = [
        (x + way * long * (back + 0.05), low - tall),
        (x + way * long * (back + 0.12), roof + tall * 0.15),
        (x + way * long * (front - 0.13), roof + tall * 0.15),
        (x + way * long * (front + 0.02), low - tall),
    ]
    canvas.shape(glass, (64, 82, 98))
    canvas.limb([(x - way * long * 0.06, roof), (x - way * long * 0.06, low - tall)], max(1, long * 0.02), shade(paint, 0.8))
    canvas.box(x - long / 2, low - tall * 0.3, x + long / 2, low - tall * 0.18, shade(paint, 0.7))
    for wheel in (-0.31, 0.31):
        canvas.disc(x + wheel * long, low, adult * 0.19, adult * 0.19, (26, 26, 28))
        canvas.disc(x + wheel * long, low, adult * 0.09, adult * 0.09, (150, 150, 154))
    canvas.disc(x + way * long * 0.48, low - tall * 0.6, adult * 0.05, adult * 0.05, (250, 240, 190))


def animal(canvas: Canvas, x: float, y: float) -> None:
    """A four-legged one: cow, horse, sheep or dog."""
    kind = canvas.whole(0, 3)
    scale = (0.85, 1.0, 0.5, 0.4)[kind] * canvas.size_at(y)
    coats: tuple[tuple[Colour, ...], ...] = (
        ((110, 70, 46), (228, 222, 212), (40, 36, 34)),
        ((96, 60, 38), (60, 44, 36)),
        ((226, 220, 206),),
        ((150, 110, 66), (60, 52, 46)),
    )
    coat, way = canvas.pick(coats[kind]), -1 if canvas.chance(0.5) else 1
    canvas.shadow(x, y, scale * 0.7, scale * 0.09)
    for leg in (-0.42, -0.3, 0.28, 0.4):
        canvas.limb([(x + leg * scale, y - scale * 0.5), (x + leg * scale + canvas.between(-0.05, 0.05) * scale, y)], scale * 0.1, shade(coat, 0.75))
    canvas.disc(x, y - scale * 0.62, scale * 0.55, scale * 0.26, coat)
    if kind == 0:
        for _ in range(3):
            canvas.disc(x + canvas.between(-0.35, 0.35) * scale, y - scale * canvas.between(0.5, 0.75), scale * 0.12, scale * 0.09, shade(coat, 0.45))
    if kind == 2:  # noqa: PLR2004 - wool
        for _ in range(10):
            canvas.disc(
                x + canvas.between(-0.5, 0.5) * scale,
                y - scale * canvas.between(0.45, 0.85),
                scale * 0.14,
                scale * 0.12,
                shade(coat, canvas.between(0.88, 1.08)),
            )
    neck = (x + way * scale * 0.62, y - scale * (1.05 if kind == 1 else 0.86))
    canvas.limb([(x + way * scale * 0.42, y - scale * 0.66), neck], scale * 0.2, coat)
    canvas.limb([neck, (neck[0] + way * scale * 0.2, neck[1] + scale * 0.1)], scale * 0.17, shade(coat, 0.92))
    canvas.shape(
        [
            (neck[0] - way * scale * 0.05, neck[1] - scale * 0.05),
            (neck[0] + way * scale * 0.02, neck[1] - scale * 0.2),
            (neck[0] + way * scale * 0.07, neck[1] - scale * 0.04),
        ],
        shade(coat, 0.8),
    )
    canvas.limb([(x - way * scale * 0.52, y - scale * 0.68), (x - way * scale * 0.64, y - scale * 0.4)], scale * 0.06, shade(coat, 0.7))


def tent(canvas: Canvas, x: float, y: float) -> None:
    """A ridge tent."""
    adult, cloth = canvas.size_at(y), canvas.pick(((196, 188, 166), (84, 104, 72), (60, 96, 140), (206, 120, 50)))
    wide, tall = adult * canvas.between(1.6, 2.4), adult * canvas.between(0.9, 1.2)
    canvas.shadow(x, y, wide * 0.6, adult * 0.1)
    canvas.shape([(x - wide / 2, y), (x - wide * 0.1, y - tall), (x + wide * 0.45, y - tall * 0.95), (x + wide * 0.62, y)], shade(cloth, 0.85))
    canvas.shape([(x - wide / 2, y), (x - wide * 0.1, y - tall), (x + wide * 0.16, y)], cloth)
    canvas.shape([(x - wide * 0.18, y), (x - wide * 0.1, y - tall * 0.85), (x, y)], shade(cloth, 0.4))


def boat(canvas: Canvas, x: float, y: float) -> None:
    """With a sail or without."""
    adult, hull = canvas.size_at(y) * canvas.between(0.8, 1.6), canvas.pick(PAINTS)
    long = adult * 1.6
    canvas.shape([(x - long / 2, y - adult * 0.35), (x + long * 0.6, y - adult * 0.4), (x + long * 0.4, y), (x - long * 0.4, y)], hull)
    canvas.shape(
        [(x - long / 2, y - adult * 0.35), (x + long * 0.6, y - adult * 0.4), (x + long * 0.55, y - adult * 0.3), (x - long * 0.47, y - adult * 0.25)],
        shade(hull, 1.3),
    )
    if canvas.chance(0.7):
        canvas.limb([(x, y - adult * 0.3), (x, y - adult * 2.2)], max(1, adult * 0.04), (90, 70, 54))
        canvas.shape([(x + adult * 0.05, y - adult * 2.1), (x + adult * 0.05, y - adult * 0.5), (x + long * 0.5, y - adult * 0.5)], (238, 234, 224))


def parasol(canvas: Canvas, x: float, y: float) -> None:
    """On a beach."""
    adult, cloth = canvas.size_at(y), canvas.pick(PAINTS)
    canvas.shadow(x + adult * 0.2, y, adult * 0.6, adult * 0.1)
    canvas.limb([(x, y), (x, y - adult * 1.3)], max(1, adult * 0.04), (220, 214, 204))
    for slice_ in range(6):
        canvas.draw.pieslice(
            (x - adult * 0.7, y - adult * 1.55, x + adult * 0.7, y - adult * 0.75),
            180 + slice_ * 30,
            210 + slice_ * 30,
            fill=cloth if slice_ % 2 else (240, 236, 226),
        )


def bird(canvas: Canvas, x: float, y: float, size: float) -> None:
    """Far away in the sky."""
    for side in (-1, 1):
        canvas.limb([(x, y), (x + side * size * 0.5, y - size * 0.35), (x + side * size, y - size * 0.1)], max(1, size * 0.14), (50, 50, 56))


def cactus(canvas: Canvas, x: float, y: float) -> None:
    """A saguaro."""
    tall, green = canvas.size_at(y) * canvas.between(0.9, 1.8), canvas.pick(((74, 104, 62), (90, 116, 76)))
    canvas.shadow(x, y, tall * 0.2, tall * 0.04)
    canvas.limb([(x, y), (x, y - tall)], tall * 0.13, green)
    for side in (-1, 1):
        lift = canvas.between(0.35, 0.6) * tall
        canvas.limb(
            [(x, y - lift), (x + side * tall * 0.2, y - lift), (x + side * tall * 0.2, y - lift - tall * 0.26)],
            tall * 0.09,
            shade(green, 0.85 if side > 0 else 1.05),
        )
