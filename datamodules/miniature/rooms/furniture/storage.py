"""Recipes of storage furniture: cupboards, shelves, refrigerators, boxes, bins."""

from functools import partial

import numpy as np

from datamodules.miniature.rooms.furniture.solids import Part, Role, ball, box, fronts, legs, tube
from datamodules.miniature.rooms.furniture.style import Kind, RecipeInput, Style


def _cupboard(given: RecipeInput, rows: int, columns: int, raised: float = 0.06) -> list[Part]:
    """A closed body with doors or drawers, on a plinth or on legs."""
    w, d, h, rng = given
    plinth = box((w - 0.04, d - 0.08, raised), (0, 0, 0), "dark")
    below = legs(w, d - 0.04, raised, 0.04) if raised > 0.06 else [plinth]
    rows += int(rng.integers(2)) if rows > 2 else 0
    doors = fronts(w - 0.02, d - 0.04, raised + 0.02, h - raised - 0.05, rows, columns)
    return [box((w, d - 0.04, h - raised), (0, 0, raised)), *doors, *below]


def _open_nightstand(given: RecipeInput) -> list[Part]:
    w, d, h, _ = given
    case = [box((w, d, 0.22), (0, 0, h - 0.22)), *fronts(w, d - 0.04, h - 0.2, 0.18, 1, 1)]
    return [*case, box((w - 0.04, d - 0.04, 0.03), (0, 0, 0.12)), *legs(w, d, h - 0.22, 0.04)]


def _mixed_cabinet(given: RecipeInput) -> list[Part]:
    """Drawers above doors, under a top of another colour."""
    w, d, h, _ = given
    body = [box((w, d - 0.04, h - 0.1), (0, 0, 0.06)), box((w - 0.04, d - 0.08, 0.06), (0, 0, 0), "dark")]
    doors = fronts(w - 0.02, d - 0.04, 0.08, h * 0.6, 1, 2)
    drawers = fronts(w - 0.02, d - 0.04, h * 0.6 + 0.1, h * 0.4 - 0.17, 1, 2)
    return [*body, *doors, *drawers, box((w, d, 0.04), (0, 0, h - 0.04), "trim")]


def _sliding_wardrobe(given: RecipeInput) -> list[Part]:
    w, d, h, _ = given
    doors = [
        box((w * 0.52, 0.03, h - 0.14), (-w * 0.23, d / 2 - 0.055, 0.07), "accent"),
        box((w * 0.52, 0.03, h - 0.14), (w * 0.23, d / 2 - 0.02, 0.07)),
    ]
    return [box((w, d - 0.08, h), (0, -0.04, 0)), *doors]


def _bookshelf(given: RecipeInput, books: bool) -> list[Part]:
    w, d, h, rng = given
    shelves = int(rng.integers(4, 7))
    step = (h - 0.06) / shelves
    parts = [box((0.04, d, h), (side * (w / 2 - 0.02), 0, 0)) for side in (-1, 1)]
    parts += [box((w - 0.06, d, 0.03), (0, 0, index * step + 0.03)) for index in range(shelves + 1)]
    parts += [box((w - 0.06, 0.02, h), (0, 0.01 - d / 2, 0))] if books else []
    for index in range(shelves):
        for x in _shares(rng, int(rng.integers(1, 4)) if books else 1, w - 0.12):
            size = (rng.uniform(0.1, 0.22), d * 0.55, rng.uniform(0.5, 0.8) * (step - 0.04))
            role = ROLES[int(rng.integers(4))]
            parts.append(box(size, (x, -d * 0.1, index * step + 0.06), role))
    return parts


def _shares(rng: np.random.Generator, count: int, width: float) -> list[float]:
    """Jittered centres of equal intervals of a width."""
    wide = width / count
    return [(index + rng.uniform(0.35, 0.65)) * wide - width / 2 for index in range(count)]


def _refrigerator(given: RecipeInput, beside: bool) -> list[Part]:
    """Two doors, on top of each other or side by side, with a seam."""
    w, d, h, rng = given
    parts = [box((w, d - 0.06, h - 0.04), (0, -0.03, 0.04)), box((w * 0.9, d * 0.8, 0.04), (0, 0, 0), "dark")]
    y, low = d / 2 - 0.03, h * rng.uniform(0.55, 0.68)
    if beside:
        for side in (-1, 1):
            parts.append(box((w / 2 - 0.012, 0.05, h - 0.08), (side * w / 4, y, 0.07)))
            parts.append(box((0.03, 0.04, h * 0.4), (side * 0.05, d / 2 + 0.01, h * 0.4), "trim"))
        return parts
    for z, tall in ((0.07, low - 0.09), (low, h - low - 0.01)):
        parts.append(box((w - 0.01, 0.05, tall), (0, y, z)))
        parts.append(box((0.03, 0.04, tall * 0.5), (0.06 - w / 2, d / 2 + 0.01, z + tall * 0.25), "trim"))
    return parts


def _carton(given: RecipeInput, closed: bool) -> list[Part]:
    w, d, h, _ = given
    if closed:
        return [box((w, d, h), (0, 0, 0)), box((0.05, d + 0.004, 0.006), (0, 0, h - 0.004), "accent")]
    walls = [box((w, 0.02, h), (0, y, 0)) for y in (0.01 - d / 2, d / 2 - 0.01)]
    walls += [box((0.02, d - 0.04, h), (x, 0, 0)) for x in (0.01 - w / 2, w / 2 - 0.01)]
    return [*walls, box((w - 0.04, d - 0.04, 0.02), (0, 0, 0.005), "accent")]


def _square_bin(given: RecipeInput) -> list[Part]:
    """Narrow at the bottom, with a broad rim."""
    w, d, h, _ = given
    rim = [box((w, 0.06, 0.05), (0, side * (d / 2 - 0.03), h - 0.05), "accent") for side in (-1, 1)]
    rim += [box((0.06, d - 0.12, 0.05), (side * (w / 2 - 0.03), 0, h - 0.05), "accent") for side in (-1, 1)]
    return [*_carton(RecipeInput(w - 0.06, d - 0.06, h - 0.05, given.rng), closed=False), *rim]


def _bin(given: RecipeInput, lid: bool = False) -> list[Part]:
    w, d, h, rng = given
    taper = rng.uniform(1.05, 1.3)
    bottom = (w / taper, d / taper)
    if not lid:
        return [tube((*bottom, h), (0, 0, 0), taper=taper, open=True)]
    low = h - w * 0.25
    return [tube((*bottom, low), (0, 0, 0), taper=taper), ball((w, d, w * 0.5), (0, 0, low - w * 0.25))]


SMALL, WIDE = ((0.3, 0.55), (0.3, 0.5), (0.35, 0.7)), ((0.8, 1.6), (0.45, 0.85), (0.6, 1.1))
TALL = ((0.6, 1.4), (0.35, 0.75), (1.3, 2.1))

ROLES: tuple[Role, ...] = ("accent", "trim", "light", "dark")

STORAGE = {
    "nightstand": Kind(
        {
            "drawers": Style(SMALL, partial(_cupboard, rows=2, columns=1), top=0.85),
            "open": Style(SMALL, _open_nightstand, top=0.85),
        },
        nyu40=32,
        front=True,
        plural="nightstands",
    ),
    "dresser": Kind(
        {
            "plinth": Style(WIDE, partial(_cupboard, rows=3, columns=2), top=0.85),
            "legs": Style(
                WIDE,
                partial(_cupboard, rows=3, columns=2, raised=0.16),
                top=0.85,
            ),
        },
        nyu40=17,
        front=True,
        plural="dressers",
    ),
    "cabinet": Kind(
        {
            "doors": Style(WIDE, partial(_cupboard, rows=1, columns=2), top=0.85),
            "mixed": Style(WIDE, _mixed_cabinet, top=0.85),
        },
        nyu40=3,
        front=True,
        plural="cabinets",
    ),
    "wardrobe": Kind(
        {
            "doors": Style(TALL, partial(_cupboard, rows=1, columns=3)),
            "sliding": Style(TALL, _sliding_wardrobe),
        },
        nyu40=39,
        front=True,
        plural="wardrobes",
    ),
    "bookshelf": Kind(
        {
            "back": Style(TALL, partial(_bookshelf, books=True)),
            "open": Style(TALL, partial(_bookshelf, books=False)),
        },
        nyu40=10,
        front=True,
        plural="bookshelves",
    ),
    "refrigerator": Kind(
        {
            "one above": Style(((0.55, 1.1), (0.45, 0.75), (1.3, 2.0)), partial(_refrigerator, beside=False)),
            "beside": Style(((0.7, 1.3), (0.45, 0.75), (1.4, 2.0)), partial(_refrigerator, beside=True)),
        },
        nyu40=24,
        front=True,
        plural="refrigerators",
    ),
    "box": Kind(
        {
            "closed": Style(((0.25, 0.55), (0.25, 0.5), (0.25, 0.6)), partial(_carton, closed=True)),
            "open": Style(((0.3, 0.55), (0.28, 0.5), (0.25, 0.6)), partial(_carton, closed=False)),
        },
        nyu40=29,
        front=False,
        plural="boxes",
    ),
    "trash can": Kind(
        {
            "round": Style(SMALL, _bin),
            "square": Style(((0.28, 0.45), (0.28, 0.42), (0.45, 0.75)), _square_bin),
            "lid": Style(SMALL, partial(_bin, lid=True)),
        },
        nyu40=39,
        front=False,
        plural="trash cans",
    ),
}
