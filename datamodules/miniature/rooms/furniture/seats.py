"""Recipes of seats and beds: chairs, armchairs, sofas, stools, benches, beds."""

import math
from functools import partial

from datamodules.miniature.rooms.furniture.solids import Part, ball, box, legs, moved, tube
from datamodules.miniature.rooms.furniture.style import Kind, RecipeInput, Style


def _chair(given: RecipeInput, slatted: bool) -> list[Part]:
    w, d, h, rng = given
    seat, y = rng.uniform(0.42, 0.48), 0.02 - d / 2
    parts = [box((w, d, 0.05), (0, 0, seat - 0.05)), *legs(w, d, seat - 0.05, 0.04)]
    if not slatted:
        return [*parts, box((w, 0.04, h - seat), (0, y, seat))]
    slats = [
        box((w / 9, 0.03, h - seat - 0.1), (w * column / 4.5, y, seat + 0.02)) for column in (-2, -1, 0, 1, 2)
    ]
    return [*parts, *slats, box((w, 0.04, 0.1), (0, y, h - 0.1))]


def _round_chair(given: RecipeInput) -> list[Part]:
    w, d, h, rng = given
    seat = rng.uniform(0.42, 0.48)
    parts = [tube((w, d, 0.05), (0, 0, seat - 0.05)), *legs(w * 0.7, d * 0.7, seat - 0.05, 0.035)]
    for step in range(-3, 4):
        angle = step * 0.35
        at = (math.sin(angle) * (w / 2 - 0.03), -math.cos(angle) * (d / 2 - 0.03), seat)
        parts.append(box((w / 6, 0.03, h - seat), at, turn=angle))
    return parts


def _office_chair(given: RecipeInput, arms: bool) -> list[Part]:
    w, d, h, rng = given
    seat, reach = rng.uniform(0.45, 0.5), min(w, d) / 2
    parts = [
        tube((0.06, 0.06, seat - 0.12), (0, 0, 0.06), "trim"),
        box((w * 0.82, d * 0.82, 0.08), (0, 0, seat - 0.08)),
        box((w * 0.75, 0.07, h - seat - 0.06), (0, -d * 0.38, seat + 0.06)),
    ]
    for angle in (index * 2 * math.pi / 5 for index in range(5)):
        at = (-math.sin(angle) * reach / 2, math.cos(angle) * reach / 2, 0.0)
        parts.append(box((0.05, reach, 0.06), at, "dark", turn=angle))
    for x in (0.03 - w / 2, w / 2 - 0.03) if arms else ():
        parts.append(box((0.05, d * 0.5, 0.04), (x, 0, seat + 0.2), "dark"))
        parts.append(box((0.04, 0.04, 0.24), (x, 0, seat - 0.04), "dark"))
    return parts


def _sofa(given: RecipeInput, cushions: bool = False) -> list[Part]:
    w, d, h, rng = given
    seat, arm, back = h * rng.uniform(0.42, 0.5), rng.uniform(0.13, 0.18), rng.uniform(0.18, 0.24)
    top = seat + h * rng.uniform(0.12, 0.2)
    parts = [
        box((w, d, seat - 0.06), (0, 0, 0.06)),
        box((w, back, h - 0.06), (0, (back - d) / 2, 0.06)),
        *[box((arm, d, top - 0.06), (side * (w - arm) / 2, 0, 0.06)) for side in (-1, 1)],
        *legs(w - 0.1, d - 0.1, 0.06, 0.05),
    ]
    seats = max(1, round(w / 0.75)) if cushions else 0
    for index in range(seats):
        wide = (w - 2 * arm) / seats
        x = (index + 0.5 - seats / 2) * wide
        parts.append(box((wide - 0.03, d - back - 0.06, 0.1), (x, back / 2, seat)))
        parts.append(ball((wide * 0.7, 0.18, 0.3), (x, back + 0.1 - d / 2, seat + 0.1), "accent"))
    return parts


def _corner_sofa(given: RecipeInput) -> list[Part]:
    w, d, h, rng = given
    deep, side = 0.85, float(rng.choice((-1, 1)))
    back = _sofa(RecipeInput(w, deep, h, rng))
    arm = box((0.8, d - deep, 0.38), (side * (w - 0.8) / 2, deep / 2, 0.03))
    return [*moved(back, (0, (deep - d) / 2, 0)), arm]


def _wing_chair(given: RecipeInput) -> list[Part]:
    w, d, h, rng = given
    seat = rng.uniform(0.4, 0.46)
    parts = [
        box((w, d, 0.2), (0, 0, seat - 0.2)),
        box((w * 0.84, 0.12, h - seat), (0, 0.06 - d / 2, seat)),
        *legs(w, d, seat - 0.2, 0.05),
    ]
    for x in (0.05 - w / 2, w / 2 - 0.05):
        parts.append(box((0.07, d * 0.4, h - seat - 0.05), (x, -d * 0.3, seat)))
        parts.append(box((0.1, d, 0.16), (x, 0, seat)))
    return parts


def _disc_stool(given: RecipeInput) -> list[Part]:
    w, d, h, _ = given
    bars = [box((w * 0.72, 0.025, 0.025), (0, y, h * 0.35)) for y in (-d * 0.36, d * 0.36)]
    return [tube((w, d, 0.08), (0, 0, h - 0.08)), *bars, *legs(w * 0.75, d * 0.75, h - 0.08, 0.035)]


def _pouf(given: RecipeInput) -> list[Part]:
    w, d, h, _ = given
    return [tube((w, d, h - 0.04), (0, 0, 0.04)), tube((w * 0.9, d * 0.9, 0.04), (0, 0, 0), "dark")]


def _panel_bench(given: RecipeInput) -> list[Part]:
    w, d, h, _ = given
    ends = [box((0.05, d * 0.9, h - 0.06), (side * w * 0.42, 0, 0)) for side in (-1, 1)]
    return [box((w, d, 0.06), (0, 0, h - 0.06)), *ends, box((w * 0.8, 0.04, 0.06), (0, 0, h * 0.4), "trim")]


def _backed_bench(given: RecipeInput) -> list[Part]:
    w, d, h, _ = given
    seat = h * 0.55
    slats = [box((w, 0.03, h * 0.13), (0, 0.02 - d / 2, z * h)) for z in (0.64, 0.87)]
    posts = [box((0.05, 0.04, h - seat), (side * w * 0.4, 0.02 - d / 2, seat), "trim") for side in (-1, 1)]
    return [box((w, d, 0.06), (0, 0, seat - 0.06)), *slats, *posts, *legs(w, d, seat - 0.06, 0.06)]


def _bed(given: RecipeInput, head: bool, posts: bool = False) -> list[Part]:
    """A bed with its head at the back (-y); the blanket has the colour that texts name."""
    w, d, h, rng = given
    low, cover, double = h - 0.22, rng.uniform(0.62, 0.74) * d, w > 1.25
    parts = [
        box((w, d, low - 0.06), (0, 0, 0.06)),
        box((w * 0.96, d * 0.97, 0.18), (0, 0, low), "light"),
        box((w, cover, 0.26), (0, (d - cover) / 2, low - 0.04)),
        *legs(w, d, 0.06, 0.07),
    ]
    for x in (-w * 0.24, w * 0.24) if double else (0.0,):
        wide = w * (0.42 if double else 0.7)
        parts.append(ball((wide, 0.4, 0.15), (x, 0.28 - d / 2, low + 0.13), "accent"))
    if head:
        parts.append(box((w, 0.06, rng.uniform(0.85, 1.15)), (0, 0.03 - d / 2, 0)))
    if posts:
        corners = legs(w, d, 1.7, 0.07)
        rails = [box((0.05, d, 0.05), (side * (w / 2 - 0.035), 0, 1.65), "trim") for side in (-1, 1)]
        parts += [*corners, *rails]
    return parts


# Sizes overlap between classes on purpose: objects must be recognized by shape, not by size.
CHAIR = ((0.42, 0.75), (0.42, 0.75), (0.75, 1.15))
BED = ((0.85, 1.4), (1.5, 2.2), (0.45, 0.85))
BENCH = ((0.8, 1.6), (0.35, 0.7), (0.36, 0.62))

SEATS = {
    "chair": Kind(
        {
            "plain": Style(CHAIR, partial(_chair, slatted=False)),
            "slatted": Style(CHAIR, partial(_chair, slatted=True)),
            "round": Style(CHAIR, _round_chair),
        },
        nyu40=5,
        front=True,
        plural="chairs",
    ),
    "office chair": Kind(
        {
            "arms": Style(((0.5, 0.78), (0.5, 0.78), (0.8, 1.15)), partial(_office_chair, arms=True)),
            "plain": Style(((0.45, 0.75), (0.45, 0.75), (0.78, 1.15)), partial(_office_chair, arms=False)),
        },
        nyu40=5,
        front=True,
        plural="office chairs",
    ),
    "armchair": Kind(
        {
            "block": Style(((0.6, 0.95), (0.55, 0.9), (0.75, 1.05)), _sofa),
            "wing": Style(((0.55, 0.85), (0.55, 0.85), (0.8, 1.15)), _wing_chair),
        },
        nyu40=5,
        front=True,
        plural="armchairs",
    ),
    "sofa": Kind(
        {
            "block": Style(((1.4, 2.2), (0.75, 1.25), (0.6, 1.0)), _sofa),
            "cushions": Style(((1.4, 2.2), (0.8, 1.25), (0.65, 1.0)), partial(_sofa, cushions=True)),
            "corner": Style(((1.6, 2.2), (1.3, 1.7), (0.6, 0.95)), _corner_sofa),
        },
        nyu40=6,
        front=True,
        plural="sofas",
    ),
    "stool": Kind(
        {
            "disc": Style(((0.3, 0.55), (0.3, 0.5), (0.35, 0.7)), _disc_stool),
            "pouf": Style(((0.3, 0.55), (0.3, 0.5), (0.32, 0.6)), _pouf),
        },
        nyu40=39,
        front=False,
        plural="stools",
    ),
    "bench": Kind(
        {
            "panels": Style(BENCH, _panel_bench),
            "back": Style(((0.8, 1.6), (0.4, 0.7), (0.55, 0.9)), _backed_bench),
        },
        nyu40=39,
        front=False,
        plural="benches",
    ),
    "bed": Kind(
        {
            "plain": Style(BED, partial(_bed, head=False)),
            "head": Style(BED, partial(_bed, head=True)),
            "posts": Style(BED, partial(_bed, head=True, posts=True)),
        },
        nyu40=4,
        front=True,
        plural="beds",
    ),
}
