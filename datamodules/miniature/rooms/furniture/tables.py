"""Recipes of tables: tables, desks, coffee tables, TV stands."""

from functools import partial

from datamodules.miniature.rooms.furniture.solids import Part, box, fronts, legs, moved, tube
from datamodules.miniature.rooms.furniture.style import Kind, RecipeInput, Style


def _slab_table(given: RecipeInput, thick: float = 0.06, shelf: bool = False) -> list[Part]:
    w, d, h, _ = given
    parts = [box((w, d, 0.05), (0, 0, h - 0.05)), *legs(w, d, h - 0.05, thick)]
    return [*parts, box((w * 0.92, d * 0.92, 0.03), (0, 0, h * 0.3))] if shelf else parts


def _round_table(given: RecipeInput) -> list[Part]:
    w, d, h, _ = given
    foot = tube((w / 2, d / 2, 0.03), (0, 0, 0), "trim")
    return [tube((w, d, 0.05), (0, 0, h - 0.05)), tube((0.12, 0.12, h - 0.08), (0, 0, 0.03), "trim"), foot]


def _trestle_table(given: RecipeInput) -> list[Part]:
    w, d, h, _ = given
    sides = [
        box((0.07, 0.05, h - 0.06), (x, y, 0.01), "trim", lean=lean)
        for x in (-w * 0.36, w * 0.36)
        for y, lean in ((-d * 0.2, -0.25), (d * 0.2, 0.25))
    ]
    return [box((w, d, 0.05), (0, 0, h - 0.05)), *sides, box((w * 0.72, 0.05, 0.06), (0, 0, h / 2), "trim")]


def _panel_desk(given: RecipeInput) -> list[Part]:
    w, d, h, _ = given
    sides = [box((0.04, d, h - 0.04), (side * (w / 2 - 0.02), 0, 0)) for side in (-1, 1)]
    back = box((w - 0.08, 0.03, h * 0.4), (0, 0.03 - d / 2, h * 0.5), "trim")
    return [box((w, d, 0.04), (0, 0, h - 0.04)), *sides, back]


def _drawer_desk(given: RecipeInput) -> list[Part]:
    w, d, h, rng = given
    wide, side = rng.uniform(0.34, 0.42), float(rng.choice((-1, 1)))
    block = [box((wide, d - 0.06, h - 0.1), (0, 0, 0.05)), *fronts(wide, d - 0.06, 0.06, h - 0.14, 3, 1)]
    posts = [
        box((0.05, 0.05, h - 0.05), (-side * (w / 2 - 0.03), y * (d / 2 - 0.03), 0), "trim") for y in (-1, 1)
    ]
    return [
        box((w, d, 0.05), (0, 0, h - 0.05)),
        *moved(block, (side * (w - wide) / 2, 0, 0)),
        box((wide - 0.06, d - 0.12, 0.05), (side * (w - wide) / 2, 0, 0), "dark"),
        *posts,
    ]


def _standing_desk(given: RecipeInput) -> list[Part]:
    w, d, h, _ = given
    parts = [box((w, d, 0.04), (0, 0, h - 0.04)), box((w * 0.72, 0.05, 0.05), (0, 0, h - 0.12), "trim")]
    for x in (-w * 0.36, w * 0.36):
        parts.append(box((0.08, 0.06, h - 0.08), (x, 0, 0.04), "trim"))
        parts.append(box((0.08, d * 0.9, 0.04), (x, 0, 0), "trim"))
    return parts


def _drum(given: RecipeInput) -> list[Part]:
    w, d, h, rng = given
    return [tube((w, d, h), (0, 0, 0), taper=rng.uniform(0.75, 1.0))]


def _open_stand(given: RecipeInput) -> list[Part]:
    w, d, h, _ = given
    sides = [box((0.05, d, h), (x, 0, 0)) for x in (0.025 - w / 2, 0.0, w / 2 - 0.025)]
    boards = [box((w - 0.02, d, 0.04), (0, 0, z)) for z in (0.04, h * 0.5, h - 0.04)]
    return [*sides, *boards, box((w - 0.04, 0.02, h - 0.06), (0, 0.02 - d / 2, 0.03), "dark")]


def _door_stand(given: RecipeInput) -> list[Part]:
    """An open shelf above doors."""
    w, d, h, _ = given
    low = h * 0.55
    case = [box((w, d - 0.04, low - 0.04), (0, 0, 0.04)), *fronts(w - 0.02, d - 0.04, 0.06, low - 0.08, 1, 3)]
    sides = [box((0.04, d - 0.04, h - low), (side * (w / 2 - 0.02), 0, low)) for side in (-1, 1)]
    return [
        *case,
        *sides,
        box((w, d, 0.04), (0, 0, h - 0.04)),
        box((w - 0.1, d - 0.1, 0.04), (0, 0, 0), "dark"),
    ]


TABLE, LOW = ((0.8, 1.6), (0.5, 0.9), (0.6, 1.05)), ((0.8, 1.6), (0.35, 0.7), (0.36, 0.62))

TABLES = {
    "table": Kind(
        {
            "slab": Style(TABLE, _slab_table, top=0.9),
            "round": Style(((0.75, 1.3), (0.7, 1.1), (0.6, 1.05)), _round_table, top=0.66),
            "trestle": Style(TABLE, _trestle_table, top=0.9),
        },
        nyu40=7,
        front=False,
        plural="tables",
    ),
    "desk": Kind(
        {
            "panels": Style(TABLE, _panel_desk, top=0.92),
            "drawers": Style(TABLE, _drawer_desk, top=0.92),
            "standing": Style(TABLE, _standing_desk, top=0.92),
        },
        nyu40=14,
        front=True,
        plural="desks",
    ),
    "coffee table": Kind(
        {
            "legs": Style(LOW, partial(_slab_table, thick=0.05), top=0.9),
            "shelf": Style(LOW, partial(_slab_table, thick=0.05, shelf=True), top=0.9),
            "drum": Style(((0.6, 0.9), (0.5, 0.8), (0.36, 0.55)), _drum, top=0.5),
        },
        nyu40=7,
        front=False,
        plural="coffee tables",
    ),
    "tv stand": Kind(
        {
            "open": Style(LOW, _open_stand, top=0.9),
            "doors": Style(LOW, _door_stand, top=0.9),
        },
        nyu40=39,
        front=True,
        plural="tv stands",
    ),
}
