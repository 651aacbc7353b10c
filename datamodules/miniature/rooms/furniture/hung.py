"""Recipes of objects on walls: doors, windows, pictures, curtains, whiteboards."""

from collections.abc import Callable
from functools import partial

from datamodules.miniature.rooms.furniture.solids import Part, ball, box, sheet
from datamodules.miniature.rooms.furniture.style import Kind, Range, RecipeInput, Style


def _door(style: str, given: RecipeInput) -> list[Part]:
    w, d, h, rng = given
    parts = [box((w, d, h), (0, 0, 0))]
    side = float(rng.choice((-1, 1)))
    parts.append(box((0.12, 0.05, 0.03), (side * (w / 2 - 0.1), d / 2 + 0.02, h * 0.5), "trim"))
    for z in (0.15, 1.1) if style == "panels" else ():
        parts += [box((w * 0.34, 0.012, 0.75), (x, d / 2 + 0.006, z)) for x in (-w * 0.21, w * 0.21)]
    return parts


def _window(style: str, given: RecipeInput) -> list[Part]:
    """Only the frame, as a depth camera does not see glass."""
    w, d, h, _ = given
    thick = 0.09
    frame = [box((w, d, thick), (0, 0, z)) for z in (0.0, h - thick)]
    frame += [box((thick, d, h - 2 * thick), (x, 0, thick)) for x in (thick / 2 - w / 2, w / 2 - thick / 2)]
    frame.append(box((0.06, d * 0.8, h - 2 * thick), (0, 0, thick)))
    if style == "cross":
        frame.append(box((w - 2 * thick, d * 0.8, 0.06), (0, 0, h / 2)))
    return frame


def _picture(style: str, given: RecipeInput) -> list[Part]:
    """A canvas with a blob; in one style with a broad frame."""
    w, d, h, _ = given
    parts = [box((w - 0.01, d, h - 0.01), (0, 0, 0.005))]
    parts.append(ball((w * 0.4, 0.03, h * 0.4), (-w * 0.1, d / 2, h * 0.25), "accent"))
    if style == "framed":
        parts += [box((w, d + 0.03, 0.06), (0, 0, z), "trim") for z in (0.0, h - 0.06)]
        parts += [
            box((0.06, d + 0.03, h - 0.12), (side * (w / 2 - 0.03), 0, 0.06), "trim") for side in (-1, 1)
        ]
    return parts


def _curtain(style: str, given: RecipeInput) -> list[Part]:
    w, d, h, _ = given
    rod = box((w + 0.1, 0.03, 0.03), (0, 0, h - 0.03), "trim")
    if style == "single":
        return [sheet((w, d, h - 0.03), (0, 0, 0)), rod]
    return [sheet((w * 0.36, d, h - 0.03), (side * w * 0.32, 0, 0)) for side in (-1, 1)] + [rod]


def _whiteboard(style: str, given: RecipeInput) -> list[Part]:
    w, d, h, _ = given
    parts = [box((w, d, h), (0, 0, 0))]
    if style == "tray":
        return [*parts, box((w * 0.6, 0.04, 0.03), (0, d / 2 + 0.02, 0.0), "dark")]
    parts += [box((w, d + 0.02, 0.03), (0, 0, z), "trim") for z in (0.0, h - 0.03)]
    return parts


def _kind(
    plural: str,
    nyu40: int,
    recipe: Callable[[str, RecipeInput], list[Part]],
    styles: tuple[str, str],
    sizes: tuple[Range, Range, Range],
    hangs: Range = (0.0, 0.0),
) -> Kind:
    """A class whose styles share their sizes and heights on the wall; all objects on walls have a front."""
    by_name = {style: Style(sizes, partial(recipe, style), "wall", hangs) for style in styles}
    return Kind(by_name, nyu40, front=True, plural=plural)


DOOR = ((0.7, 1.3), (0.03, 0.07), (1.6, 2.1))
PANEL = ((0.5, 1.5), (0.04, 0.08), (0.45, 1.15))
CURTAIN = ((0.6, 1.2), (0.07, 0.12), (1.5, 2.1))

HUNG = {
    "door": _kind("doors", 8, _door, ("plain", "panels"), DOOR),
    "window": _kind("windows", 9, _window, ("bar", "cross"), PANEL, (0.85, 1.0)),
    "picture": _kind("pictures", 11, _picture, ("framed", "canvas"), PANEL, (1.0, 1.4)),
    "curtain": _kind("curtains", 16, _curtain, ("single", "pair"), CURTAIN, (0.05, 0.4)),
    "whiteboard": _kind("whiteboards", 30, _whiteboard, ("tray", "rails"), PANEL, (0.85, 1.0)),
}
