"""Recipes of fixtures: toilets, sinks, bathtubs, screens, lamps, plants."""

import math
from functools import partial

from datamodules.miniature.rooms.furniture.solids import Part, ball, box, tube
from datamodules.miniature.rooms.furniture.style import Kind, RecipeInput, Style


def _toilet(given: RecipeInput, lid: bool) -> list[Part]:
    w, d, h, _ = given
    front = (d - 0.2) / 2 - d / 2 + 0.2
    parts = [
        box((w, 0.18, h - 0.35), (0, 0.09 - d / 2, 0.35)),
        box((w * 0.5, d * 0.55, 0.3), (0, -0.04, 0)),
        tube((w * 0.75, d - 0.2, 0.16), (0, front, 0.24), taper=1.3),
    ]
    if lid:
        return [*parts, box((w * 0.8, 0.04, h - 0.42), (0, 0.22 - d / 2, 0.41))]
    return [*parts, tube((w * 0.9, d - 0.22, 0.03), (0, front, 0.4))]


def _basin(w: float, d: float, z: float, h: float) -> list[Part]:
    """An open trough with a tap."""
    return [
        *_trough(w, d, z, h),
        box((0.04, 0.04, 0.16), (0, 0.05 - d / 2, z + h - 0.02), "trim"),
        box((0.03, 0.14, 0.03), (0, 0.1 - d / 2, z + h + 0.11), "trim"),
    ]


def _trough(w: float, d: float, z: float, h: float) -> list[Part]:
    walls = [box((w, 0.05, h), (0, side * (d / 2 - 0.025), z)) for side in (-1, 1)]
    walls += [box((0.05, d - 0.1, h), (side * (w / 2 - 0.025), 0, z)) for side in (-1, 1)]
    return [*walls, box((w - 0.1, d - 0.1, 0.04), (0, 0, z))]


def _pedestal_sink(given: RecipeInput) -> list[Part]:
    w, d, h, _ = given
    return [*_basin(w, d, h - 0.32, 0.18), tube((0.2, 0.18, h - 0.32), (0, -0.06, 0), taper=0.8)]


def _cabinet_sink(given: RecipeInput) -> list[Part]:
    w, d, h, _ = given
    doors = [
        box((w / 2 - 0.04, 0.02, h - 0.48), (side * w / 4, d / 2 - 0.03, 0.08), "accent") for side in (-1, 1)
    ]
    return [*_basin(w, d, h - 0.3, 0.16), box((w - 0.06, d - 0.08, h - 0.32), (0, 0, 0.02)), *doors]


def _bathtub(given: RecipeInput, feet: bool) -> list[Part]:
    w, d, h, _ = given
    low = 0.1 if feet else 0.0
    tap = box((0.04, 0.16, 0.12), (w * 0.45, 0, h - 0.06), "trim")
    if not feet:
        return [*_trough(w, d, low, h - 0.06), tap]
    posts = [box((0.06, 0.06, 0.1), (x * w * 0.3, y * d * 0.25, 0), "trim") for x in (-1, 1) for y in (-1, 1)]
    tub = tube((w / 1.15, d / 1.15, h - low - 0.06), (0, 0, low), taper=1.15, open=True)
    return [tub, *posts, tap]


def _screen(given: RecipeInput, hung: bool = False, block: bool = False) -> list[Part]:
    """A wide panel on two feet, on a block, or on the wall; the panel has the colour that texts name."""
    w, d, h, _ = given
    if hung:
        return [box((w, 0.03, h), (0, 0, 0)), box((w * 0.4, 0.03, h * 0.4), (0, -0.03, h * 0.3), "dark")]
    low = 0.08 if block else 0.06
    parts = [box((w, 0.04, h - low), (0, 0, low)), box((w, 0.05, 0.03), (0, 0, low - 0.015), "dark")]
    if block:
        return [*parts, box((w * 0.7, d, low), (0, 0, 0), "dark")]
    return [*parts, *[box((0.05, d, 0.06), (side * w * 0.35, 0, 0), "dark") for side in (-1, 1)]]


def _monitor(given: RecipeInput, high: bool) -> list[Part]:
    """A panel with a border, on a neck and a disc."""
    w, d, h, _ = given
    low = h * (0.35 if high else 0.2)
    return [
        box((w, 0.04, h - low), (0, 0, low)),
        box((w, 0.05, 0.04), (0, 0, low - 0.02), "dark"),
        *[box((0.03, 0.05, h - low), (side * w / 2, 0, low), "dark") for side in (-1, 1)],
        box((0.06, 0.05, low + 0.1), (0, -0.05, 0), "trim"),
        tube((min(w * 0.6, 0.36), d, 0.025), (0, 0, 0), "trim"),
    ]


def _floor_lamp(given: RecipeInput, globe: bool = False) -> list[Part]:
    w, d, h, rng = given
    parts = [tube((w * 0.8, d * 0.8, 0.03), (0, 0, 0), "trim")]
    if globe:
        parts.append(tube((0.03, 0.03, h - w), (0, 0, 0.03), "trim"))
        return [*parts, ball((w, d, w), (0, 0, h - w))]
    shade = h * rng.uniform(0.2, 0.26)
    parts.append(tube((0.03, 0.03, h - shade), (0, 0, 0.03), "trim"))
    return [*parts, tube((w, d, shade), (0, 0, h - shade), taper=rng.uniform(0.55, 0.75), open=True)]


def _table_lamp(given: RecipeInput) -> list[Part]:
    w, d, h, rng = given
    shade = h * 0.5
    foot = ball((w * 0.5, d * 0.5, h * 0.5), (0, 0, 0.01), "trim")
    shade_part = tube((w, d, shade), (0, 0, h - shade), taper=rng.uniform(0.5, 0.75), open=True)
    return [foot, tube((w * 0.45, d * 0.45, 0.02), (0, 0, 0), "trim"), shade_part]


def _plant(given: RecipeInput, tall: bool) -> list[Part]:
    """A plant whose leaves have the colour that texts name."""
    w, d, h, rng = given
    pot = min(0.35, h * 0.3)
    wide = min(w, d) * 0.55
    parts = [tube((wide * 0.75, wide * 0.75, pot), (0, 0, 0), "accent", taper=1.33)]
    start = h * 0.55 if tall else pot * 0.9
    if tall:
        parts.append(tube((0.05, 0.05, start - pot + 0.08), (0, 0, pot - 0.04), "trim"))
    count = int(rng.integers(4, 8))
    for index in range(count):
        angle = 2 * math.pi * index / count
        wide, high = w * rng.uniform(0.4, 0.55), (h - start) * rng.uniform(0.5, 0.9)
        x, y = math.cos(angle) * (w - wide) / 2, math.sin(angle) * (d - wide) / 2
        parts.append(ball((wide, wide, high), (x, y, start + (h - start - high) * rng.random())))
    return [*parts, ball((w * 0.45, d * 0.45, h - start), (0, 0, start))]


def _spiky_plant(given: RecipeInput) -> list[Part]:
    w, d, h, rng = given
    pot = h * 0.3
    parts = [tube((w * 0.4, w * 0.4, pot), (0, 0, 0), "accent", taper=1.2)]
    for index in range(9):
        angle, lean = 2 * math.pi * index / 9, rng.uniform(0.25, 0.65)
        at = (-math.sin(angle) * w * 0.06, math.cos(angle) * d * 0.06, pot * 0.7)
        parts.append(box((0.07, 0.015, (h - pot) * 0.95), at, turn=angle, lean=-lean))
    return parts


SCREEN = ((0.5, 1.1), (0.16, 0.28), (0.38, 0.7))

FIXTURES = {
    "toilet": Kind(
        {
            "open": Style(((0.4, 0.6), (0.5, 0.75), (0.72, 1.05)), partial(_toilet, lid=False)),
            "lid": Style(((0.4, 0.6), (0.5, 0.75), (0.75, 1.05)), partial(_toilet, lid=True)),
        },
        nyu40=33,
        front=True,
        plural="toilets",
    ),
    "sink": Kind(
        {
            "pedestal": Style(((0.45, 0.75), (0.42, 0.65), (0.75, 1.15)), _pedestal_sink),
            "cabinet": Style(((0.45, 0.8), (0.42, 0.65), (0.75, 1.15)), _cabinet_sink),
        },
        nyu40=34,
        front=True,
        plural="sinks",
    ),
    "bathtub": Kind(
        {
            "block": Style(((1.4, 2.1), (0.75, 1.25), (0.5, 0.9)), partial(_bathtub, feet=False)),
            "feet": Style(((1.4, 2.1), (0.75, 1.25), (0.55, 0.95)), partial(_bathtub, feet=True)),
        },
        nyu40=36,
        front=False,
        plural="bathtubs",
    ),
    "tv": Kind(
        {
            "feet": Style(SCREEN, _screen, "top"),
            "block": Style(SCREEN, partial(_screen, block=True), "top"),
            "hung": Style(
                ((0.5, 1.5), (0.04, 0.08), (0.45, 1.15)), partial(_screen, hung=True), "wall", (0.9, 1.3)
            ),
        },
        nyu40=25,
        front=True,
        plural="tvs",
    ),
    "monitor": Kind(
        {
            "low": Style(SCREEN, partial(_monitor, high=False), "top"),
            "high": Style(SCREEN, partial(_monitor, high=True), "top"),
        },
        nyu40=40,
        front=True,
        plural="monitors",
    ),
    "lamp": Kind(
        {
            "floor": Style(((0.35, 0.65), (0.35, 0.65), (1.1, 1.7)), _floor_lamp),
            "table": Style(((0.25, 0.45), (0.25, 0.42), (0.35, 0.65)), _table_lamp, "top"),
            "globe": Style(((0.35, 0.6), (0.35, 0.6), (1.1, 1.6)), partial(_floor_lamp, globe=True)),
        },
        nyu40=35,
        front=False,
        plural="lamps",
    ),
    "plant": Kind(
        {
            "bush": Style(((0.32, 0.65), (0.32, 0.6), (0.4, 0.95)), partial(_plant, tall=False)),
            "tree": Style(((0.4, 0.75), (0.4, 0.75), (1.0, 1.7)), partial(_plant, tall=True)),
            "spiky": Style(((0.5, 0.9), (0.5, 0.9), (0.5, 0.9)), _spiky_plant),
        },
        nyu40=40,
        front=False,
        plural="plants",
    ),
}
