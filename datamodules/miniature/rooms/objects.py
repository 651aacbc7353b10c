"""Coloured point clouds of objects, to render views of: crops from scanned rooms, or complete objects."""

from dataclasses import replace
from functools import lru_cache
from typing import Literal, NamedTuple, TypeAlias

import numpy as np

from datamodules.miniature.rooms.furniture.catalogue import (
    CLASSES,
    UNSEEN_CLASSES,
    Appearance,
    draw_appearance,
)
from datamodules.miniature.rooms.layout import Change, make_room
from datamodules.miniature.rooms.sensor import scan, whole_thing
from datamodules.miniature.world import generator, pick

World: TypeAlias = Literal["seen", "unseen_pairs", "unseen_classes"]
"""Which objects: those of training, only held-out combinations, or only held-out classes."""

CHANGES: dict[World, Change] = {"seen": "none", "unseen_pairs": "pairs", "unseen_classes": "classes"}

REACH = 0.05
"""Metres around the box that a crop includes."""

FEW, MANY = 700, 2500
"""Range of the number of points of a complete object."""

GREY = 0.4
"""Value of red, green and blue of an object without colour."""

KEPT = 16
"""Number of rooms whose crops are cached, as consecutive items alternate between rooms."""


class ViewedObject(NamedTuple):
    """An object and its points.

    Attributes:
        appearance: its class and appearance.
        front: direction of its front, radians counter-clockwise from +y.
        points: (P, 6) x, y, z in metres, red, green, blue in 0..1.
        colourless: whether its colour is omitted.
    """

    appearance: Appearance
    front: float
    points: np.ndarray
    colourless: bool = False


def belongs(appearance: Appearance, world: World) -> bool:
    """Whether an object belongs to a world; in the training world nothing is held out."""
    if world == "unseen_classes":
        return appearance.name in UNSEEN_CLASSES
    return appearance.held_out == (world == "unseen_pairs")


@lru_cache(maxsize=KEPT)
def crops(seed: int, stream: str, number: int, world: World) -> tuple[ViewedObject, ...]:
    """The objects of a room that its scan shows and that belong to a world, with the points around them."""
    room = make_room(generator(seed, f"{stream}/room", number), CHANGES[world])
    seen = scan(room)
    cloud = np.concatenate([seen.points, seen.colours.astype(np.float32) / 255], 1)
    found = []
    for piece in room.pieces:
        if piece.number in seen.seen and belongs(piece.appearance, world):
            low, high = np.array(piece.box[:3]) - REACH, np.array(piece.box[3:]) + REACH
            inside = ((seen.points > low) & (seen.points < high)).all(1)
            found.append(ViewedObject(piece.appearance, piece.yaw, cloud[inside]))
    return tuple(found)


def one_of(found: tuple[ViewedObject, ...], rng: np.random.Generator) -> ViewedObject | None:
    """A random object, all classes equally likely; None if there is none."""
    names = sorted({shown.appearance.name for shown in found})
    if not names:
        return None
    name = pick(rng, names)
    alike = [shown for shown in found if shown.appearance.name == name]
    return pick(rng, alike)


def appearance_in(world: World, rng: np.random.Generator) -> Appearance:
    """The appearance of a random object of a world, all classes equally likely."""
    pool = UNSEEN_CLASSES if world == "unseen_classes" else CLASSES
    name = pick(rng, pool)
    while True:
        appearance = draw_appearance(rng, name, "pairs" if world == "unseen_pairs" else "none")
        if belongs(appearance, world):
            return appearance


def appearance_like(colour: str, name: str, rng: np.random.Generator) -> Appearance:
    """A random appearance of a given colour and class, in a style of training."""
    while True:
        appearance = draw_appearance(rng, name)
        if appearance.accent != colour:
            return replace(appearance, colour=colour)


def whole(appearance: Appearance, rng: np.random.Generator, colourless: float = 0.0) -> ViewedObject:
    """A complete object at the origin in a random light; without colour with probability `colourless`."""
    points, colours = whole_thing(appearance, int(rng.integers(FEW, MANY)), rng)
    light = rng.uniform(0.8, 1.1) * rng.uniform(0.95, 1.05, 3)
    colours = np.clip(colours * light + rng.normal(0, 0.03, colours.shape), 0, 1)
    grey = rng.random() < colourless
    colours = np.full_like(colours, GREY) if grey else colours
    return ViewedObject(appearance, 0.0, np.concatenate([points, colours], 1), grey)
