"""An order comes in, the parts of what hangs on a wall go out: doors, windows, pictures, curtains, boards."""

from functools import partial

from datamodules.miniature.rooms.furniture.solids import Part, ball, box, sheet
from datamodules.miniature.rooms.furniture.style import Kind, Order, Style


def _door(order: Order, panels: bool) -> list[Part]:
    w, d, h, rng = order
    parts = [box((w, d, h), (0, 0, 0))]
    side = float(rng.choice((-1, 1)))
    parts.append(box((0.12, 0.05, 0.03), (side * (w / 2 - 0.1), d / 2 + 0.02, h * 0.5), "trim"))
    for z in (0.15, 1.1) if panels else ():
        parts += [box((w * 0.34, 0.012, 0.75), (x, d / 2 + 0.006, z)) for x in (-w * 0.21, w * 0.21)]
    return parts


def _window(order: Order, cross: bool) -> list[Part]:
    """A frame; glass is not seen by the sensor."""
    w, d, h, _ = order
    thick = 0.09
    frame = [box((w, d, thick), (0, 0, z)) for z in (0.0, h - thick)]
    frame += [box((thick, d, h - 2 * thick), (x, 0, thick)) for x in (thick / 2 - w / 2, w / 2 - thick / 2)]
    frame.append(box((0.06, d * 0.8, h - 2 * thick), (0, 0, thick)))
    if cross:
        frame.append(box((w - 2 * thick, d * 0.8, 0.06), (0, 0, h / 2)))
    return frame


def _picture(order: Order, framed: bool) -> list[Part]:
    """A canvas with something on it, and perhaps a broad frame."""
    w, d, h, _ = order
    parts = [box((w - 0.01, d, h - 0.01), (0, 0, 0.005))]
    parts.append(ball((w * 0.4, 0.03, h * 0.4), (-w * 0.1, d / 2, h * 0.25), "accent"))
    if framed:
        parts += [box((w, d + 0.03, 0.06), (0, 0, z), "trim") for z in (0.0, h - 0.06)]
        parts += [
            box((0.06, d + 0.03, h - 0.12), (side * (w / 2 - 0.03), 0, 0.06), "trim") for side in (-1, 1)
        ]
    return parts


def _curtain(order: Order, pair: bool) -> list[Part]:
    w, d, h, _ = order
    rod = box((w + 0.1, 0.03, 0.03), (0, 0, h - 0.03), "trim")
    if not pair:
        return [sheet((w, d, h - 0.03), (0, 0, 0)), rod]
    return [sheet((w * 0.36, d, h - 0.03), (side * w * 0.32, 0, 0)) for side in (-1, 1)] + [rod]


def _whiteboard(order: Order, tray: bool) -> list[Part]:
    w, d, h, _ = order
    parts = [box((w, d, h), (0, 0, 0))]
    if tray:
        return [*parts, box((w * 0.6, 0.04, 0.03), (0, d / 2 + 0.02, 0.0), "dark")]
    parts += [box((w, d + 0.02, 0.03), (0, 0, z), "trim") for z in (0.0, h - 0.03)]
    return parts


PANEL, CURTAIN = ((0.5, 1.5), (0.04, 0.08), (0.45, 1.15)), ((0.6, 1.2), (0.07, 0.12), (1.5, 2.1))

HUNG = {
    "door": Kind(
        {
            "plain": Style(((0.7, 1.3), (0.03, 0.07), (1.6, 2.1)), partial(_door, panels=False), "wall"),
            "panels": Style(((0.7, 1.3), (0.03, 0.07), (1.6, 2.1)), partial(_door, panels=True), "wall"),
        },
        nyu40=8,
        front=True,
        plural="doors",
    ),
    "window": Kind(
        {
            "bar": Style(PANEL, partial(_window, cross=False), "wall", (0.85, 1.0)),
            "cross": Style(PANEL, partial(_window, cross=True), "wall", (0.85, 1.0)),
        },
        nyu40=9,
        front=True,
        plural="windows",
    ),
    "picture": Kind(
        {
            "framed": Style(PANEL, partial(_picture, framed=True), "wall", (1.0, 1.4)),
            "canvas": Style(PANEL, partial(_picture, framed=False), "wall", (1.0, 1.4)),
        },
        nyu40=11,
        front=True,
        plural="pictures",
    ),
    "curtain": Kind(
        {
            "single": Style(CURTAIN, partial(_curtain, pair=False), "wall", (0.05, 0.4)),
            "pair": Style(CURTAIN, partial(_curtain, pair=True), "wall", (0.05, 0.4)),
        },
        nyu40=16,
        front=True,
        plural="curtains",
    ),
    "whiteboard": Kind(
        {
            "tray": Style(PANEL, partial(_whiteboard, tray=True), "wall", (0.85, 1.0)),
            "rails": Style(PANEL, partial(_whiteboard, tray=False), "wall", (0.85, 1.0)),
        },
        nyu40=30,
        front=True,
        plural="whiteboards",
    ),
}
