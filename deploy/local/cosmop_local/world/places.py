"""Places: sky, ground, and what belongs there. Each draws the ground that people and things are then put on."""

from __future__ import annotations

from collections.abc import Callable

from PIL import Image, ImageDraw

from cosmop_local.world import things
from cosmop_local.world.canvas import Canvas, Colour, mix, noise, outline, shade, textured

#: Sky at the zenith and at the horizon.
SKIES: tuple[tuple[Colour, Colour], ...] = (
    ((74, 128, 196), (190, 214, 232)), ((120, 138, 156), (206, 208, 206)), ((84, 92, 140), (240, 176, 124)),
    ((52, 96, 170), (228, 226, 214)), ((150, 160, 170), (226, 222, 212)), ((96, 152, 212), (214, 228, 236)), ((48, 62, 104), (206, 140, 126)),
)  # fmt: skip
SANDS: tuple[Colour, ...] = ((214, 186, 140), (196, 160, 116), (226, 206, 168))
EARTHS: tuple[Colour, ...] = ((168, 132, 94), (150, 116, 86), (188, 152, 108), (132, 108, 82))
GRASSES: tuple[Colour, ...] = ((108, 132, 62), (86, 118, 58), (138, 142, 76), (70, 104, 56))
ASPHALTS: tuple[Colour, ...] = ((98, 98, 102), (120, 118, 114), (80, 82, 88))


def sky(canvas: Canvas) -> None:
    """From the upper edge to the horizon, with clouds."""
    top, low = SKIES[canvas.whole(0, len(SKIES) - 1)]
    height = int(canvas.horizon) + 2
    canvas.image.paste(textured(canvas.rng, top, low, canvas.width, height, ((3, 2, 0.08),)), (0, 0))
    if canvas.chance(0.75):
        cover = canvas.between(0.02, 0.22)
        field = noise(canvas.rng, canvas.width, height, ((4, 3, 0.5), (11, 9, 0.3), (34, 26, 0.15))) + cover - 0.12
        mask = Image.fromarray((field.clip(0, 0.25) * 4 * 235).astype("uint8"))
        canvas.image.paste(mix(low, (255, 255, 255), 0.6), (0, 0), mask)
    if canvas.chance(0.3):
        x, y, r = canvas.between(0.1, 0.9) * canvas.width, canvas.between(0.1, 0.5) * canvas.horizon, canvas.between(0.02, 0.05) * canvas.height
        canvas.disc(x, y, r, r, (255, 246, 214))
    for _ in range(canvas.whole(0, 4) if canvas.chance(0.3) else 0):
        things.bird(canvas, canvas.between(0, 1) * canvas.width, canvas.between(0.1, 0.8) * canvas.horizon, canvas.between(0.01, 0.025) * canvas.height)


def ground(canvas: Canvas, colour: Colour, *, rough: float = 0.22) -> None:
    """From the horizon to the lower edge; finer far away."""
    top = int(canvas.horizon)
    height = canvas.height - top
    cells = ((5, 9, rough), (18, 40, rough * 0.8), (canvas.width // 7, height // 3, rough))
    canvas.image.paste(textured(canvas.rng, mix(colour, (200, 204, 206), 0.25), shade(colour, 0.9), canvas.width, height, cells), (0, top))


def hills(canvas: Canvas, colours: tuple[Colour, ...], layers: int) -> None:
    """Ridges behind one another, the far ones paler."""
    for layer in range(layers):
        near = (layer + 1) / layers
        colour = mix(canvas.pick(colours), (176, 190, 206), 0.55 * (1 - near))
        height = canvas.height * canvas.between(0.05, 0.2) * (1.3 - near)
        line = outline(canvas.rng, canvas.width, canvas.horizon - height, height * 0.7, canvas.whole(2, 5), 3)
        canvas.shape([*line, (canvas.width, canvas.horizon + 2), (0, canvas.horizon + 2)], colour)
        lower = [(x, y + height * 0.3 + 4) for x, y in line]
        canvas.shape([*lower, (canvas.width, canvas.horizon + 2), (0, canvas.horizon + 2)], shade(colour, 0.92))


def scatter(canvas: Canvas, thing: Callable[[Canvas, float, float], None], count: int, *, near: float = 0.75, far: float = 0.03) -> None:
    """Puts things about, those far away first; ``near`` and ``far`` are shares of the way from the horizon to the lower edge."""
    depth = canvas.height - canvas.horizon
    for y in sorted(canvas.horizon + depth * canvas.between(far, near) for _ in range(count)):
        thing(canvas, canvas.between(-0.05, 1.05) * canvas.width, y)


def beach(canvas: Canvas) -> None:
    """Sea, surf and sand."""
    sky(canvas)
    sea = canvas.pick(((54, 112, 148), (70, 140, 150), (60, 92, 120)))
    ground(canvas, sea, rough=0.12)
    shore = canvas.horizon + (canvas.height - canvas.horizon) * canvas.between(0.12, 0.4)
    line = outline(canvas.rng, canvas.width, shore, canvas.height * 0.02, 3, 2)
    for _ in range(canvas.whole(0, 2)):
        things.boat(canvas, canvas.between(0, 1) * canvas.width, canvas.horizon + (shore - canvas.horizon) * canvas.between(0.2, 0.5))
    _surface(canvas, [*line, (canvas.width, canvas.height), (0, canvas.height)], canvas.pick(SANDS))
    foam = [(x, y - 2) for x, y in line]
    canvas.draw.line(foam, fill=(238, 240, 240), width=max(2, int(canvas.height * 0.008)))
    scatter(canvas, things.parasol, canvas.whole(0, 4), near=0.8, far=0.5)
    if canvas.chance(0.4):
        scatter(canvas, things.tree, canvas.whole(1, 2), near=0.7, far=0.45)


def field(canvas: Canvas) -> None:
    """Grass, hills, trees, sometimes a farm and a path."""
    sky(canvas)
    hills(canvas, GRASSES, canvas.whole(1, 3))
    ground(canvas, canvas.pick(GRASSES))
    if canvas.chance(0.5):
        _path(canvas, canvas.pick(EARTHS))
    if canvas.chance(0.4):
        scatter(canvas, things.house, canvas.whole(1, 2), near=0.2, far=0.08)
    scatter(canvas, things.tree, canvas.whole(1, 7), near=0.45)
    scatter(canvas, things.bush, canvas.whole(0, 6))


def desert(canvas: Canvas) -> None:
    """Sand, mesas, cactus and rocks."""
    sky(canvas)
    hills(canvas, EARTHS, canvas.whole(1, 3))
    ground(canvas, canvas.pick(SANDS + EARTHS))
    scatter(canvas, things.cactus, canvas.whole(0, 6), near=0.6)
    scatter(canvas, things.rock, canvas.whole(1, 6), near=0.7)
    scatter(canvas, things.bush, canvas.whole(0, 5))


def forest(canvas: Canvas) -> None:
    """Many trees."""
    sky(canvas)
    hills(canvas, things.GREENS, 2)
    ground(canvas, mix(canvas.pick(GRASSES), (80, 66, 48), 0.35))
    if canvas.chance(0.5):
        _path(canvas, canvas.pick(EARTHS))
    scatter(canvas, things.tree, canvas.whole(10, 20), near=0.4, far=0.02)
    scatter(canvas, things.rock, canvas.whole(0, 3))


def street(canvas: Canvas) -> None:
    """Buildings along a road."""
    sky(canvas)
    x = -canvas.width * 0.05
    while x < canvas.width:
        wide, tall = canvas.between(0.1, 0.24) * canvas.width, canvas.between(0.15, 0.85) * canvas.horizon
        _building(canvas, x, wide, tall)
        x += wide
    ground(canvas, canvas.pick(ASPHALTS), rough=0.1)
    kerb = canvas.horizon + (canvas.height - canvas.horizon) * canvas.between(0.18, 0.35)
    _surface(canvas, [(0, canvas.horizon), (canvas.width, canvas.horizon), (canvas.width, kerb), (0, kerb)], (168, 164, 158))
    dash = canvas.height - (canvas.height - kerb) * canvas.between(0.3, 0.5)
    for step in range(-1, 8):
        left = step * canvas.width / 6
        canvas.box(left, dash, left + canvas.width / 12, dash + canvas.height * 0.012, (224, 222, 210))
    if canvas.chance(0.5):
        scatter(canvas, things.tree, canvas.whole(1, 3), near=0.2, far=0.1)
    scatter(canvas, things.car, canvas.whole(0, 3), near=0.6, far=0.3)


def town(canvas: Canvas) -> None:
    """Houses with gardens."""
    sky(canvas)
    hills(canvas, GRASSES, 1)
    ground(canvas, canvas.pick(GRASSES + EARTHS))
    _path(canvas, canvas.pick(ASPHALTS))
    scatter(canvas, things.house, canvas.whole(2, 5), near=0.35, far=0.08)
    scatter(canvas, things.tree, canvas.whole(1, 5), near=0.45)
    scatter(canvas, things.car, canvas.whole(0, 2), near=0.6, far=0.35)


def _surface(canvas: Canvas, points: list[tuple[float, float]], colour: Colour) -> None:
    """A textured polygon."""
    mask = Image.new("L", canvas.image.size, 0)
    ImageDraw.Draw(mask).polygon(points, fill=255)
    box = mask.getbbox()
    if box is None:
        return
    width, height = box[2] - box[0], box[3] - box[1]
    cells = ((4, 6, 0.18), (canvas.width // 8, max(2, height // 4), 0.2))
    canvas.image.paste(textured(canvas.rng, shade(colour, 1.04), shade(colour, 0.9), width, height, cells), box, mask.crop(box))


def _path(canvas: Canvas, colour: Colour) -> None:
    far, near = canvas.between(0.2, 0.8) * canvas.width, canvas.between(0.1, 0.9) * canvas.width
    half = canvas.between(0.08, 0.25) * canvas.width
    bend = (far + near) / 2 + canvas.between(-0.1, 0.1) * canvas.width
    middle = (canvas.horizon + canvas.height) / 2
    left = [(far - 2, canvas.horizon), (bend - half * 0.35, middle), (near - half, canvas.height)]
    right = [(near + half, canvas.height), (bend + half * 0.35, middle), (far + 2, canvas.horizon)]
    _surface(canvas, left + right, colour)


def _building(canvas: Canvas, x: float, wide: float, tall: float) -> None:
    wall = canvas.pick((*things.WALLS, (110, 116, 128), (90, 84, 82)))
    top = canvas.horizon - tall
    canvas.box(x, top, x + wide, canvas.horizon + 2, wall)
    canvas.box(x + wide * 0.85, top, x + wide, canvas.horizon + 2, shade(wall, 0.8))
    glass = canvas.pick(((70, 86, 104), (52, 56, 66), (204, 190, 130), (130, 160, 184)))
    step_x, step_y = wide / canvas.whole(3, 6), canvas.height * canvas.between(0.035, 0.06)
    y = top + step_y * 0.4
    while y < canvas.horizon - step_y:
        column = x + step_x * 0.25
        while column < x + wide * 0.95 - step_x * 0.4:
            canvas.box(column, y, column + step_x * 0.5, y + step_y * 0.55, shade(glass, canvas.between(0.7, 1.2)))
            column += step_x
        y += step_y


PLACES: dict[str, Callable[[Canvas], None]] = {"beach": beach, "field": field, "desert": desert, "forest": forest, "street": street, "town": town}
