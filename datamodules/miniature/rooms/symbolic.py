"""Pieces of a room come in, one vector and one box a piece go out: what a perfect eye would tell of each RoI.

The language model is taught to read such rows before any point encoder exists. Their boxes lie in the room's own
frame, the one that the alignment of a scan leads to.
"""

from collections.abc import Collection, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Literal, TypeAlias

import numpy as np

from datamodules.miniature.rooms.furniture.catalogue import CLASSES, HELD_OUT_PAIRS
from datamodules.miniature.rooms.furniture.palette import COLOURS
from datamodules.miniature.rooms.layout import make_room
from datamodules.miniature.rooms.room import Edges, Piece, Room
from datamodules.miniature.world import generator
from octavius.boxes import Box3D

Part: TypeAlias = Literal["class", "colour"]
"""What of a piece may be hidden."""

NAMES = (*CLASSES, "unknown")
SIZES = ("small", "", "large")

PARTS = {
    "class": slice(0, len(NAMES)),
    "colour": slice(len(NAMES), len(NAMES) + len(COLOURS)),
    "size": slice(len(NAMES) + len(COLOURS), len(NAMES) + len(COLOURS) + len(SIZES)),
    "front": slice(len(NAMES) + len(COLOURS) + len(SIZES), len(NAMES) + len(COLOURS) + len(SIZES) + 2),
}
WIDTH = PARTS["front"].stop
"""Numbers a RoI: class, colour, size, and where its front looks; its box stands behind them."""

STRENGTH = 4.0
"""Factor of all features, so that their mean square is about one, as that of normalised features is."""

MISSED, DOUBLED, FALSE = 0.02, 0.15, 0.04
"""Shares of the things of a room that a detector misses, finds twice, and makes up."""

BLUR = 0.025
"""Metres by which the edges of a found box are wrong, one standard deviation."""

FEW = 6
"""Pieces of a small room, at most."""

UNSEEN = 0.08
"""Share of the pieces of a room that a scan does not see."""


@lru_cache(maxsize=8192)
def planned(seed: int, place: str, index: int) -> Room:
    """A room of a stream of its own, kept: furnishing costs more than all that is done with a room later."""
    return make_room(generator(seed, place, index))


def imagined(room: Room, rng: np.random.Generator, few: float = 0.0) -> Room:
    """A room like this one: turned, in other colours, and without some of its pieces.

    Things of one class that shared a colour still do, and no pair of colour and class is one that is held out.

    Args:
        room: the plan.
        rng: of all that differs.
        few: how often no more than `FEW` pieces are left, from which it is easier to learn to fetch one.
    """
    quarters, colours = int(rng.integers(4)), dict[tuple[str, str], str]()
    for name in dict.fromkeys(piece.name for piece in room.pieces):
        free = [colour for colour in COLOURS if (colour, name) not in HELD_OUT_PAIRS]
        worn = dict.fromkeys(piece.colour for piece in room.pieces if piece.name == name)
        order = rng.permutation(len(free))[: len(worn)]
        colours |= {(name, old): free[place] for old, place in zip(worn, order, strict=True)}
    pieces = []
    for piece in room.pieces:
        look = replace(piece.look, colour=colours[piece.name, piece.colour])
        x, y, z = turned((*piece.at, *piece.at), quarters)[:3]
        box, quarter = turned(piece.box, quarters), (piece.quarter + quarters) % 4
        pieces.append(replace(piece, look=look, quarter=quarter, at=(x, y, z), box=box))
    kept = [piece for piece, share in zip(pieces, rng.random(len(pieces)), strict=True) if share >= UNSEEN]
    if rng.random() < few:
        some = set(rng.permutation(len(kept))[: int(rng.integers(2, FEW + 1))].tolist())
        kept = [piece for place, piece in enumerate(kept) if place in some]
    w, d, h = room.size
    return replace(room, size=(d, w, h) if quarters % 2 else (w, d, h), pieces=tuple(kept or pieces))


def turned(box: Edges, quarters: int) -> Edges:
    """A box after quarter turns about the vertical, counter-clockwise."""
    for _ in range(quarters % 4):
        x1, y1, z1, x2, y2, z2 = box
        box = (-y2, x1, z1, -y1, x2, z2)
    return box


def symbols(
    pieces: Sequence[Piece], rng: np.random.Generator, hidden: Collection[Part] = (), found: bool = True
) -> np.ndarray:
    """One row a RoI: (O, WIDTH + 6) float32, the box as centre and size.

    Args:
        pieces: what is there.
        rng: of the detector, and of what stands in the place of what is hidden.
        hidden: what cannot be seen of any piece; random numbers stand there.
        found: by a detector, which misses, doubles and makes up things, blurs boxes, and has no order; else the
            true regions, as they are.
    """
    rows = np.array([_row(piece, rng, hidden) for piece in pieces]).reshape(len(pieces), WIDTH + 6)
    if found:
        times = 1 + (rng.random(len(rows)) < DOUBLED) - (rng.random(len(rows)) < MISSED)
        made_up = rows[rng.random(len(rows)) < FALSE]
        made_up[:, : PARTS["class"].stop] = STRENGTH * (np.array(NAMES) == "unknown")
        made_up[:, WIDTH : WIDTH + 2] *= -1  # across the room
        rows = np.concatenate([rows.repeat(times, 0), made_up])
        rows = rows[rng.permutation(len(rows))]
        blur = rng.normal(0, BLUR, (len(rows), 2, 3))
        rows[:, WIDTH : WIDTH + 3] += blur.mean(1)
        rows[:, WIDTH + 3 :] = np.maximum(rows[:, WIDTH + 3 :] + blur[:, 1] - blur[:, 0], 0.02)
    return rows.astype(np.float32)


def alone(piece: Piece, rng: np.random.Generator, hidden: Collection[Part] = ()) -> np.ndarray:
    """The row of a single thing without a room, as of an object set: at the origin, its farthest corner at 1."""
    row = symbols([piece], rng, hidden, found=False)
    sides = row[0, WIDTH + 3 :]
    row[0, WIDTH:] = [0, 0, 0, *(2 * sides / np.linalg.norm(sides))]
    return row


def centred(box: Edges) -> Box3D:
    """A box by its centre and size, in whole millimetres."""
    x1, y1, z1, x2, y2, z2 = box
    x, y, z = (round((low + high) / 2, 3) for low, high in ((x1, x2), (y1, y2), (z1, z2)))
    return x, y, z, round(x2 - x1, 3), round(y2 - y1, 3), round(z2 - z1, 3)


def _row(piece: Piece, rng: np.random.Generator, hidden: Collection[Part]) -> np.ndarray:
    row = np.zeros(WIDTH + 6)
    for part, names, name in (("class", NAMES, piece.name), ("colour", COLOURS, piece.colour)):
        row[PARTS[part]] = rng.normal(0, 0.5, len(names)) if part in hidden else np.array(names) == name
    row[PARTS["size"]] = np.array(SIZES) == piece.size
    row[PARTS["front"]] = piece.front or (0, 0)
    row *= STRENGTH
    row[WIDTH:] = centred(piece.box)
    return row
