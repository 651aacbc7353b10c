"""Recipes of the classes that are held out of training, in scans and in texts."""

import math

from datamodules.miniature.rooms.furniture.solids import Part, ball, box, legs, moved, tube
from datamodules.miniature.rooms.furniture.style import Kind, RecipeInput, Style


def _piano(given: RecipeInput) -> list[Part]:
    w, d, h, _ = given
    return [
        box((w, d * 0.5, h), (0, -d * 0.25, 0)),
        box((w, d * 0.5, 0.12), (0, d * 0.25, 0.6)),
        box((w * 0.9, d * 0.32, 0.02), (0, d * 0.3, 0.72), "light"),
        box((w * 0.9, 0.06, 0.02), (0, d * 0.18, 0.735), "dark"),
        *[box((0.08, 0.08, 0.6), (side * (w / 2 - 0.05), d / 2 - 0.06, 0)) for side in (-1, 1)],
    ]


def _ladder(given: RecipeInput) -> list[Part]:
    """Two leaning frames that meet at the top; the front one has rungs."""
    w, d, h, _ = given
    tilt = math.atan2(d / 2, h)
    y = d / 4
    rails = [
        box((0.07, 0.05, h - 0.04), (side * (w / 2 - 0.035), way * y, 0.02), lean=way * tilt)
        for side in (-1, 1)
        for way in (-1, 1)
    ]
    steps = 5
    rungs = [
        box((w - 0.08, 0.1, 0.04), (0, d / 2 * (1 - (step + 1) / (steps + 1)), h * (step + 1) / (steps + 1)))
        for step in range(steps)
    ]
    return [*rails, *rungs, box((w, 0.12, 0.04), (0, 0, h - 0.04))]


def _bunk_bed(given: RecipeInput) -> list[Part]:
    w, d, h, _ = given
    parts = legs(w, d, h, 0.07, "body")
    for z in (0.3, h - 0.6):
        parts.append(box((w, d, 0.12), (0, 0, z)))
        parts.append(box((w * 0.94, d * 0.96, 0.14), (0, 0, z + 0.12), "light"))
        parts.append(box((w * 0.95, d * 0.5, 0.18), (0, d * 0.2, z + 0.1)))
    parts += [box((0.04, d, 0.1), (side * (w / 2 - 0.02), 0, h - 0.2)) for side in (-1, 1)]
    rungs = [box((0.35, 0.04, 0.04), (0, d / 2 + 0.02, 0.3 + 0.28 * step), "trim") for step in range(4)]
    return parts + rungs


def _guitar(given: RecipeInput) -> list[Part]:
    """Upright on a small stand."""
    w, d, h, _ = given
    body = [
        tube((w, h * 0.3, d * 0.5), (0, 0, -d * 0.25)),
        tube((w * 0.75, h * 0.24, d * 0.5), (0, h * 0.22, -d * 0.25)),
        box((0.06, h * 0.55, 0.03), (0, h * 0.5, d * 0.2), "trim"),
        box((0.09, h * 0.1, 0.03), (0, h * 0.8, d * 0.2), "dark"),
    ]
    # Built lying on its back and then set upright, because tubes have vertical axes.
    upright = [_upright(part, h * 0.15 + 0.05) for part in body]
    stand = box((w * 0.6, d, 0.05), (0, 0, 0), "dark")
    return [*upright, stand, tube((w * 0.2, w * 0.2, 0.01), (0, d * 0.26, h * 0.2), "dark")]


def _upright(part: Part, lift: float) -> Part:
    """A part that lies on its back, set upright (y becomes up) and raised by `lift`."""
    x, y, z = part.centre
    return Part(part.shape, part.size, (x, z, y + lift), part.role, part.turn, -math.pi / 2, part.taper)


def _fan(given: RecipeInput) -> list[Part]:
    w, _, h, _ = given
    z = h - w
    blades = [
        box((0.1, 0.02, w * 0.42), (math.sin(a) * w * 0.2, 0.02, z + w * 0.29 + math.cos(a) * w * 0.2))
        for a in (index * 2 * math.pi / 3 for index in range(3))
    ]
    cage = _upright(tube((w, w, 0.12), (0, 0, -0.06), taper=0.92), 0.0)
    return [
        tube((w * 0.8, w * 0.8, 0.04), (0, 0, 0), "dark"),
        tube((0.04, 0.04, z + 0.1), (0, -0.08, 0.03), "trim"),
        *moved([cage], (0, 0, z + w / 2)),
        *blades,
        ball((0.12, 0.16, 0.12), (0, -0.08, z + w / 2 - 0.06), "dark"),
    ]


def _island(given: RecipeInput) -> list[Part]:
    w, d, h, _ = given
    doors = [
        box((w / 3 - 0.05, 0.02, h - 0.25), (column * (w - 0.1) / 3, d * 0.36, 0.12), "accent")
        for column in (-1, 0, 1)
    ]
    stove = box((0.5, d * 0.5, 0.015), (-w * 0.22, 0, h), "dark")
    return [box((w - 0.1, d * 0.72, h - 0.06), (0, 0, 0)), *doors, box((w, d, 0.06), (0, 0, h - 0.06)), stove]


NOVEL = {
    "piano": Kind({"upright": Style(((1.35, 1.5), (0.55, 0.65), (1.1, 1.3)), _piano)}, 39, True, "pianos"),
    "ladder": Kind({"steps": Style(((0.4, 0.55), (0.6, 0.9), (1.2, 1.8)), _ladder)}, 40, True, "ladders"),
    "bunk bed": Kind({"plain": Style(((0.9, 1.1), (1.9, 2.1), (1.6, 1.8)), _bunk_bed)}, 4, True, "bunk beds"),
    "guitar": Kind({"stand": Style(((0.36, 0.44), (0.2, 0.28), (0.95, 1.1)), _guitar)}, 40, True, "guitars"),
    "fan": Kind({"stand": Style(((0.38, 0.5), (0.38, 0.5), (1.0, 1.4)), _fan)}, 40, True, "fans"),
    "kitchen island": Kind(
        {"block": Style(((1.2, 1.9), (0.7, 1.0), (0.88, 0.95)), _island)}, 39, True, "kitchen islands"
    ),
}
