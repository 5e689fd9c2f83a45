"""People: of any age, skin, clothes and pose, at any distance, alone and in crowds, with what they carry."""

from __future__ import annotations

import math
from dataclasses import dataclass

from cosmop_local.world.canvas import Canvas, Colour, Point, mix, shade

SKINS: tuple[Colour, ...] = ((244, 208, 178), (226, 180, 142), (198, 146, 106), (158, 108, 74), (118, 78, 54), (84, 56, 42))
HAIRS: tuple[Colour, ...] = ((28, 22, 20), (52, 36, 26), (88, 58, 36), (140, 100, 56), (150, 148, 146), (20, 20, 26))
CLOTHES: tuple[Colour, ...] = (
    (176, 44, 48), (38, 66, 128), (44, 104, 72), (214, 178, 60), (60, 60, 68), (226, 222, 214), (120, 72, 130), (206, 112, 52),
    (92, 138, 176), (140, 96, 64), (30, 32, 40), (196, 130, 150),
)  # fmt: skip
TROUSERS: tuple[Colour, ...] = ((44, 54, 84), (58, 56, 58), (96, 84, 64), (34, 34, 40), (120, 110, 94), (70, 84, 70))
BAGS: tuple[Colour, ...] = ((70, 52, 40), (36, 60, 70), (120, 36, 40), (40, 40, 46), (84, 100, 60), (196, 190, 178))


@dataclass(frozen=True)
class Look:
    """How a person is built and dressed."""

    height: float
    #: Heads in a body: about 7.5 for adults, 5 for small children.
    heads: float
    skin: Colour
    hair: Colour
    top: Colour
    legs: Colour
    shoes: Colour
    dress: bool
    long_sleeves: bool
    cover: str
    broad: float


def look(canvas: Canvas, height: float, *, child: bool = False) -> Look:
    """A random person of this height in pixels."""
    top = canvas.pick(CLOTHES, 20)
    covers = ("", "", "", "cap", "scarf", "hat", "long", "long")
    return Look(
        height=height,
        heads=canvas.between(4.8, 5.8) if child else canvas.between(6.8, 7.6),
        skin=canvas.pick(SKINS, 8),
        hair=canvas.pick(HAIRS, 8),
        top=top,
        legs=canvas.pick(TROUSERS),
        shoes=canvas.pick(((30, 28, 28), (90, 60, 40), (190, 186, 180)), 10),
        dress=canvas.chance(0.22),
        long_sleeves=canvas.chance(0.6),
        cover=covers[canvas.whole(0, len(covers) - 1)],
        broad=canvas.between(0.88, 1.2),
    )


def person(canvas: Canvas, x: float, y: float, *, child: bool = False, bag: str = "", pose: str = "", face: str = "") -> None:
    """Draws a person whose feet stand at (x, y).

    Args:
        bag: "", "backpack", "suitcase", "plastic", "bundle".
        pose: "stand", "walk", "wave", "hips", "sit"; empty: a random one.
        face: "front" or "back"; empty: random.
    """
    tall = canvas.size_at(y) * (canvas.between(0.5, 0.72) if child else canvas.between(0.92, 1.08))
    who = look(canvas, tall, child=child)
    pose = pose or ("stand", "walk", "walk", "wave", "hips", "stand")[canvas.whole(0, 5)]
    face = face or ("front" if canvas.chance(0.72) else "back")
    turn = -1 if canvas.chance(0.5) else 1
    canvas.shadow(x + tall * 0.08, y, tall * 0.24, tall * 0.045)
    head = tall / who.heads
    hip_y, hip = (y - tall * 0.24, tall * 0.075) if pose == "sit" else (y - tall * 0.48, tall * 0.075)
    shoulder_y = hip_y - tall * 0.32
    shoulder = tall * 0.115 * who.broad
    if bag == "backpack" and face == "front":
        _backpack(canvas, x, shoulder_y, hip_y, shoulder * 1.25)
    _legs(canvas, who, x, y, hip_y, hip, pose, turn)
    hands = _arms(canvas, who, x, shoulder_y, hip_y, shoulder, pose, turn)
    _torso(canvas, who, x, shoulder_y, hip_y, shoulder, hip)
    _head(canvas, who, x + turn * head * 0.05, shoulder_y - head * 0.62, head, face, turn)
    if bag == "backpack" and face == "back":
        _backpack(canvas, x, shoulder_y + tall * 0.02, hip_y, shoulder * 0.9)
    _carry(canvas, bag, hands[turn > 0], tall, y)


def crowd(canvas: Canvas, count: int, left: float, right: float, near: float, far: float, *, bags: float = 0.2, children: float = 0.18) -> None:
    """People between x ``left`` and ``right``, feet between y ``far`` and ``near``, those behind drawn first; families hold together."""
    depths = sorted(canvas.between(far, near) for _ in range(count))
    kinds = ("backpack", "suitcase", "plastic", "bundle", "backpack")
    for y in depths:
        x = canvas.between(left, right)
        bag = kinds[canvas.whole(0, 4)] if canvas.chance(bags) else ""
        person(canvas, x, y, bag=bag)
        if canvas.chance(children):
            person(canvas, x + canvas.size_at(y) * canvas.between(0.22, 0.34) * (1 if canvas.chance(0.5) else -1), y + 1, child=True)


def _legs(canvas: Canvas, who: Look, x: float, y: float, hip_y: float, hip: float, pose: str, turn: int) -> None:
    tall, thick = who.height, who.height * 0.085 * who.broad
    if pose == "sit":
        for side in (-1, 1):
            knee = (x + side * hip + turn * tall * 0.16, hip_y + tall * 0.02)
            canvas.limb([(x + side * hip * 0.6, hip_y), knee, (knee[0] + turn * tall * 0.02, y)], thick, shade(who.legs, 0.9 if side < 0 else 1.0))
        return
    stride = tall * (canvas.between(0.07, 0.15) if pose == "walk" else canvas.between(0.01, 0.05))
    bare = who.dress and canvas.chance(0.6)
    for side, dark in ((-1, 0.82), (1, 1.0)):
        foot = (x + side * (hip * 0.7 + stride), y - (tall * 0.02 if pose == "walk" and side < 0 else 0))
        knee = ((x + side * hip + foot[0]) / 2 + turn * stride * 0.3, (hip_y + y) / 2)
        canvas.limb([(x + side * hip * 0.7, hip_y), knee, foot], thick * (0.8 if bare else 1), shade(who.skin if bare else who.legs, dark))
        canvas.disc(foot[0] + turn * tall * 0.02, foot[1], tall * 0.045, tall * 0.022, who.shoes)
    if who.dress:
        hem = hip_y + tall * canvas.between(0.16, 0.34)
        flare = hip * canvas.between(1.7, 2.4)
        canvas.shape([(x - hip * 1.2, hip_y - tall * 0.06), (x + hip * 1.2, hip_y - tall * 0.06), (x + flare, hem), (x - flare, hem)], who.top)
        canvas.shape([(x + hip * 0.5, hip_y), (x + flare, hem), (x + flare * 0.4, hem)], shade(who.top, 0.82))


def _torso(canvas: Canvas, who: Look, x: float, shoulder_y: float, hip_y: float, shoulder: float, hip: float) -> None:
    waist = hip * 1.25 * who.broad
    middle = shoulder_y + (hip_y - shoulder_y) * 0.62
    low = hip_y + who.height * 0.03
    body = [
        (x - shoulder, shoulder_y), (x + shoulder, shoulder_y), (x + waist * 0.95, middle), (x + waist, low), (x - waist, low), (x - waist * 0.95, middle),
    ]  # fmt: skip
    canvas.limb([(x - shoulder * 0.86, shoulder_y + shoulder * 0.2), (x + shoulder * 0.86, shoulder_y + shoulder * 0.2)], shoulder * 0.55, who.top)
    canvas.shape(body, who.top)
    canvas.shape([(x + shoulder * 0.35, shoulder_y), (x + shoulder, shoulder_y), (x + waist, low), (x + waist * 0.4, low)], shade(who.top, 0.8))
    if canvas.chance(0.3):
        stripe = canvas.pick(CLOTHES)
        for step in range(3):
            y = shoulder_y + (low - shoulder_y) * (0.3 + 0.2 * step)
            canvas.box(x - waist * 0.95, y, x + waist * 0.95, y + who.height * 0.014, stripe)
    elif canvas.chance(0.4):  # an open jacket
        canvas.shape(
            [(x - shoulder * 0.18, shoulder_y), (x + shoulder * 0.18, shoulder_y), (x + waist * 0.3, low), (x - waist * 0.3, low)], canvas.pick(CLOTHES)
        )


def _arms(canvas: Canvas, who: Look, x: float, shoulder_y: float, hip_y: float, shoulder: float, pose: str, turn: int) -> tuple[Point, Point]:
    """Draws both; returns where the left and the right hand are."""
    tall, reach = who.height, who.height * 0.19
    thick = tall * 0.062 * who.broad
    hands = []
    for side in (-1, 1):
        root = (x + side * shoulder * 0.95, shoulder_y + tall * 0.025)
        if pose == "wave" and side == turn:
            angle = canvas.between(-1.2, -0.5)
            elbow = (root[0] + side * reach * math.cos(angle), root[1] + reach * math.sin(angle))
            hand = (elbow[0] + side * reach * 0.2, elbow[1] - reach * 0.95)
        elif pose == "hips":
            elbow = (root[0] + side * reach * 0.72, root[1] + reach * 0.8)
            hand = (x + side * shoulder * 0.7, hip_y - tall * 0.02)
        else:
            swing = side * turn * (canvas.between(0.1, 0.5) if pose == "walk" else canvas.between(-0.05, 0.12))
            elbow = (root[0] + side * reach * 0.2 + swing * reach * 0.4, root[1] + reach * 0.95)
            hand = (elbow[0] + swing * reach, elbow[1] + reach * 0.9)
        dark = 0.85 if side < 0 else 0.95
        canvas.limb([root, elbow], thick, shade(who.top, dark))
        canvas.limb([elbow, hand], thick * 0.85, shade(who.top if who.long_sleeves else who.skin, dark))
        canvas.disc(*hand, tall * 0.03, tall * 0.034, who.skin)
        hands.append(hand)
    return hands[0], hands[1]


def _head(canvas: Canvas, who: Look, x: float, y: float, head: float, face: str, turn: int) -> None:
    canvas.limb([(x, y), (x, y + head * 0.7)], head * 0.36, shade(who.skin, 0.82))
    rx, ry = head * 0.38, head * 0.5
    if who.cover == "long":
        canvas.disc(x, y + ry * 0.3, rx * 1.22, ry * 1.25, shade(who.hair, 0.9))
    if who.cover == "scarf":
        cloth = canvas.pick(CLOTHES)
        canvas.disc(x, y + ry * 0.12, rx * 1.28, ry * 1.25, cloth)
        canvas.shape([(x - rx * 1.2, y + ry * 0.6), (x + rx * 1.2, y + ry * 0.6), (x + rx * 1.6, y + ry * 1.7), (x - rx * 1.6, y + ry * 1.7)], cloth)
    if face == "back":
        canvas.disc(x, y, rx * 1.02, ry, who.hair if who.cover != "scarf" else canvas.pick(CLOTHES))
        canvas.disc(x, y + ry * 0.75, rx * 0.6, ry * 0.3, who.skin)
    else:
        canvas.disc(x, y, rx, ry, who.skin)
        canvas.draw.chord((x - rx, y - ry, x + rx, y + ry), -70, 80, fill=shade(who.skin, 0.9))
        if who.cover != "scarf":
            canvas.draw.chord((x - rx * 1.06, y - ry * 1.08, x + rx * 1.06, y + ry * 0.7), 180, 360, fill=who.hair)
        if head > 9:  # noqa: PLR2004 - smaller ones have no visible face
            _face(canvas, who, x + turn * rx * 0.12, y, rx, ry)
    if who.cover in {"cap", "hat"}:
        colour = canvas.pick(CLOTHES)
        canvas.draw.chord((x - rx * 1.1, y - ry * 1.15, x + rx * 1.1, y + ry * 0.5), 180, 360, fill=colour)
        brim = rx * (1.7 if who.cover == "hat" else 1.2)
        canvas.disc(x + (turn * rx * 0.5 if who.cover == "cap" else 0), y - ry * 0.33, brim, ry * 0.13, shade(colour, 0.75))


def _face(canvas: Canvas, who: Look, x: float, y: float, rx: float, ry: float) -> None:
    dark = shade(who.skin, 0.35)
    for side in (-1, 1):
        if rx > 6:  # noqa: PLR2004
            canvas.disc(x + side * rx * 0.4, y + ry * 0.02, rx * 0.17, ry * 0.1, (238, 236, 230))
        canvas.disc(x + side * rx * 0.4, y + ry * 0.02, max(0.8, rx * 0.1), max(0.8, ry * 0.09), dark)
        canvas.limb([(x + side * rx * 0.22, y - ry * 0.16), (x + side * rx * 0.58, y - ry * 0.18)], max(1, rx * 0.08), mix(who.hair, dark, 0.5))
    canvas.limb([(x, y + ry * 0.08), (x + rx * 0.08, y + ry * 0.28)], max(1, rx * 0.1), shade(who.skin, 0.75))
    canvas.limb([(x - rx * 0.26, y + ry * 0.52), (x + rx * 0.26, y + ry * 0.52)], max(1, ry * 0.09), mix(who.skin, (150, 40, 50), 0.55))
    if canvas.chance(0.15):
        canvas.draw.chord((x - rx * 0.8, y, x + rx * 0.7, y + ry * 0.98), 20, 160, fill=who.hair)


def _backpack(canvas: Canvas, x: float, top: float, bottom: float, half: float) -> None:
    colour = canvas.pick(BAGS)
    low = top + (bottom - top) * 0.85
    canvas.draw.rounded_rectangle((x - half, top, x + half, low), radius=half * 0.4, fill=colour)
    canvas.draw.rounded_rectangle((x - half * 0.7, top + (low - top) * 0.5, x + half * 0.7, low - 1), radius=half * 0.2, fill=shade(colour, 0.75))


def _carry(canvas: Canvas, bag: str, hand: Point, tall: float, ground: float) -> None:
    x, y = hand
    colour = canvas.pick(BAGS)
    if bag == "suitcase":
        half, top = tall * 0.1, ground - tall * 0.3
        canvas.limb([(x, y), (x, top)], max(1, tall * 0.012), (60, 60, 60))
        canvas.draw.rounded_rectangle((x - half, top, x + half, ground), radius=half * 0.25, fill=colour)
        canvas.box(x - half * 0.6, top + tall * 0.05, x + half * 0.6, top + tall * 0.06, shade(colour, 0.7))
    elif bag == "plastic":
        pale = canvas.pick(((214, 214, 220), (120, 160, 200), (200, 90, 90), (90, 90, 96)))
        canvas.shape([(x - tall * 0.05, y), (x + tall * 0.05, y), (x + tall * 0.09, y + tall * 0.15), (x - tall * 0.09, y + tall * 0.15)], pale)
    elif bag == "bundle":
        canvas.disc(x, y - tall * 0.02, tall * 0.12, tall * 0.09, colour)
        canvas.limb([(x - tall * 0.08, y - tall * 0.05), (x + tall * 0.08, y)], max(1, tall * 0.012), shade(colour, 0.6))
