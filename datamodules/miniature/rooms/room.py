"""Places of things come in, the facts of a room go out: pieces with their looks and boxes; no points, no words."""

import math
from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import TypeAlias

from datamodules.miniature.rooms.furniture.catalogue import KINDS, Look, built
from datamodules.miniature.rooms.furniture.solids import Triple

Edges: TypeAlias = tuple[float, float, float, float, float, float]
"""A box by its least and its greatest corner: x1, y1, z1, x2, y2, z2 in metres."""

FRONTS = ((0, 1), (-1, 0), (0, -1), (1, 0))
"""Where the front of a piece looks after so many quarter turns, as (x, y)."""


@dataclass(frozen=True)
class Piece:
    """One thing in a room.

    Attributes:
        number: unique in its room, from 0.
        look: what it is.
        quarter: quarter turns about the vertical, counter-clockwise; at 0 its front looks along y.
        at: the middle of its underside.
        box: of the whole piece, seen or not.
    """

    number: int
    look: Look
    quarter: int
    at: Triple
    box: Edges

    @property
    def name(self) -> str:
        """Its class."""
        return self.look.name

    @property
    def colour(self) -> str:
        """The colour that names it."""
        return self.look.colour

    @property
    def size(self) -> str:
        """`small`, `large` or nothing."""
        return self.look.size

    @property
    def yaw(self) -> float:
        """How far it is turned, radians."""
        return self.quarter * math.pi / 2 + built(self.look).tilt

    @property
    def front(self) -> tuple[int, int] | None:
        """Where its front looks, as (x, y); None for a piece without one."""
        return FRONTS[self.quarter % 4] if KINDS[self.name].front else None


@dataclass(frozen=True)
class Room:
    """A furnished room; the origin is the middle of its floor, z is up.

    Attributes:
        kind: what it is used for.
        size: width (x), depth (y), height (z) in metres.
        pieces: in the order of their numbers; numbers may be missing.
        ink: seeds walls, light and scan, and nothing else.
    """

    kind: str
    size: Triple
    pieces: tuple[Piece, ...]
    ink: int

    def only(self, numbers: Collection[int]) -> "Room":
        """The room with those pieces alone, such as the ones that were seen."""
        return replace(self, pieces=tuple(piece for piece in self.pieces if piece.number in numbers))


def box_at(look: Look, quarter: int, at: Triple) -> Edges:
    """The box of a thing that stands at a place."""
    x, y, h = built(look).half
    if quarter % 2:
        x, y = y, x
    return at[0] - x, at[1] - y, at[2], at[0] + x, at[1] + y, at[2] + h
