"""Symbolic features of a room's objects: one vector that states its attributes, and one box, per object.

The language model is pre-trained on them, without point clouds. Boxes are in the frame of the room, to which the axis
alignment of a scan transforms its points.
"""

from collections.abc import Collection, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Literal, TypeAlias

import numpy as np

from datamodules.instructions.relations import MinMaxBox
from datamodules.miniature.rooms.furniture.catalogue import CLASSES, HELD_OUT_PAIRS
from datamodules.miniature.rooms.furniture.palette import COLOURS
from datamodules.miniature.rooms.layout import make_room
from datamodules.miniature.rooms.room import Piece, Room
from datamodules.miniature.world import generator
from octavius.boxes import Box3D

Part: TypeAlias = Literal["class", "colour"]
"""Attribute of an object that may be omitted."""

NAMES = (*CLASSES, "unknown")
SIZES = ("small", "", "large")

PARTS = {
    "class": slice(0, len(NAMES)),
    "colour": slice(len(NAMES), len(NAMES) + len(COLOURS)),
    "size": slice(len(NAMES) + len(COLOURS), len(NAMES) + len(COLOURS) + len(SIZES)),
    "front": slice(len(NAMES) + len(COLOURS) + len(SIZES), len(NAMES) + len(COLOURS) + len(SIZES) + 2),
}
WIDTH = PARTS["front"].stop
"""Number of features of a RoI: class, colour, size and direction of the front; its box follows them in a row."""

STRENGTH = 4.0
"""Factor of all features, which makes their mean square about 1, as for normalized features."""

MISSED, DOUBLED, FALSE = 0.02, 0.15, 0.04
"""Simulated detector: fractions of missed objects, of objects detected twice, and of false detections."""

BLUR = 0.025
"""Standard deviation in metres of the edges of a detected box."""

FEW = 6
"""Largest number of objects in a small room."""

UNSEEN = 0.08
"""Fraction of a room's objects that a scan does not show."""


@lru_cache(maxsize=8192)
def planned(seed: int, stream: str, index: int) -> Room:
    """Generates a room of a random stream; cached, because generating it takes longer than everything after."""
    return make_room(generator(seed, stream, index))


def imagined(room: Room, rng: np.random.Generator, few: float = 0.0) -> Room:
    """A variation of a room: rotated, recoloured, and with some objects removed.

    Objects of one class that shared a colour still do, and no pair of colour and class is held out.

    Args:
        room: the plan.
        rng: random generator.
        few: probability of leaving at most `FEW` objects, with which looking one up is easier to learn.
    """
    quarters, colours = int(rng.integers(4)), dict[tuple[str, str], str]()
    for name in dict.fromkeys(piece.name for piece in room.pieces):
        free = [colour for colour in COLOURS if (colour, name) not in HELD_OUT_PAIRS]
        worn = dict.fromkeys(piece.colour for piece in room.pieces if piece.name == name)
        order = rng.permutation(len(free))[: len(worn)]
        colours |= {(name, old): free[index] for old, index in zip(worn, order, strict=True)}
    pieces = []
    for piece in room.pieces:
        appearance = replace(piece.appearance, colour=colours[piece.name, piece.colour])
        x, y, z = turned((*piece.at, *piece.at), quarters)[:3]
        box, quarter = turned(piece.box, quarters), (piece.quarter + quarters) % 4
        pieces.append(replace(piece, appearance=appearance, quarter=quarter, at=(x, y, z), box=box))
    kept = [piece for piece, share in zip(pieces, rng.random(len(pieces)), strict=True) if share >= UNSEEN]
    if rng.random() < few:
        some = set(rng.permutation(len(kept))[: int(rng.integers(2, FEW + 1))].tolist())
        kept = [piece for index, piece in enumerate(kept) if index in some]
    w, d, h = room.size
    return replace(room, size=(d, w, h) if quarters % 2 else (w, d, h), pieces=tuple(kept or pieces))


def turned(box: MinMaxBox, quarters: int) -> MinMaxBox:
    """A box after quarter turns about the vertical, counter-clockwise."""
    for _ in range(quarters % 4):
        x1, y1, z1, x2, y2, z2 = box
        box = (-y2, x1, z1, -y1, x2, z2)
    return box


def symbols(
    pieces: Sequence[Piece], rng: np.random.Generator, omitted: Collection[Part] = (), found: bool = True
) -> np.ndarray:
    """Features (O, WIDTH + 6) float32, one row per RoI; the box as centre and size.

    Args:
        pieces: the objects.
        rng: random generator of the simulated detector and of the values of omitted attributes.
        omitted: attributes replaced by random numbers in all rows.
        found: simulate a detector: some objects are missed, duplicated or made up, boxes are inexact, and rows are
            in random order. Otherwise the rows are the ground truth, in order.
    """
    rows = np.array([_row(piece, rng, omitted) for piece in pieces]).reshape(len(pieces), WIDTH + 6)
    if found:
        times = 1 + (rng.random(len(rows)) < DOUBLED) - (rng.random(len(rows)) < MISSED)
        made_up = rows[rng.random(len(rows)) < FALSE]
        made_up[:, : PARTS["class"].stop] = STRENGTH * (np.array(NAMES) == "unknown")
        made_up[:, WIDTH : WIDTH + 2] *= -1  # mirrored to the other side of the room
        rows = np.concatenate([rows.repeat(times, 0), made_up])
        rows = rows[rng.permutation(len(rows))]
        blur = rng.normal(0, BLUR, (len(rows), 2, 3))
        rows[:, WIDTH : WIDTH + 3] += blur.mean(1)
        rows[:, WIDTH + 3 :] = np.maximum(rows[:, WIDTH + 3 :] + blur[:, 1] - blur[:, 0], 0.02)
    return rows.astype(np.float32)


def alone(piece: Piece, rng: np.random.Generator, omitted: Collection[Part] = ()) -> np.ndarray:
    """The row (1, WIDTH + 6) of an object outside a room: box at the origin, half its diagonal 1 long."""
    row = symbols([piece], rng, omitted, found=False)
    sides = row[0, WIDTH + 3 :]
    row[0, WIDTH:] = [0, 0, 0, *(2 * sides / np.linalg.norm(sides))]
    return row


def centred(box: MinMaxBox) -> Box3D:
    """A box as centre and size, rounded to millimetres."""
    x1, y1, z1, x2, y2, z2 = box
    x, y, z = (round((low + high) / 2, 3) for low, high in ((x1, x2), (y1, y2), (z1, z2)))
    return x, y, z, round(x2 - x1, 3), round(y2 - y1, 3), round(z2 - z1, 3)


def _row(piece: Piece, rng: np.random.Generator, omitted: Collection[Part]) -> np.ndarray:
    row = np.zeros(WIDTH + 6)
    for part, names, name in (("class", NAMES, piece.name), ("colour", COLOURS, piece.colour)):
        row[PARTS[part]] = rng.normal(0, 0.5, len(names)) if part in omitted else np.array(names) == name
    row[PARTS["size"]] = np.array(SIZES) == piece.size
    row[PARTS["front"]] = piece.front or (0, 0)
    row *= STRENGTH
    row[WIDTH:] = centred(piece.box)
    return row
