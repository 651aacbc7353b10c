"""A room as a list of objects with appearances, poses and boxes, from which scans and texts are generated."""

import math
from collections.abc import Collection
from dataclasses import dataclass, replace

from datamodules.instructions.relations import MinMaxBox
from datamodules.miniature.rooms.furniture.catalogue import KINDS, Appearance, built
from datamodules.miniature.rooms.furniture.solids import Triple

FRONTS = ((0, 1), (-1, 0), (0, -1), (1, 0))
"""Direction (x, y) of an object's front after 0 to 3 quarter turns."""


@dataclass(frozen=True)
class Piece:
    """One object of a room: a piece of furniture, or an object on one.

    Attributes:
        number: unique in its room, from 0.
        appearance: its class and appearance.
        quarter: quarter turns about the vertical, counter-clockwise; at 0 its front faces +y.
        at: centre of its underside, in metres.
        box: bounds of the whole object, also of parts that a scan does not show.
    """

    number: int
    appearance: Appearance
    quarter: int
    at: Triple
    box: MinMaxBox

    @property
    def name(self) -> str:
        """Its class."""
        return self.appearance.name

    @property
    def colour(self) -> str:
        """The colour by which texts name it."""
        return self.appearance.colour

    @property
    def size(self) -> str:
        """`small`, `large` or empty."""
        return self.appearance.size

    @property
    def yaw(self) -> float:
        """Its rotation about the vertical in radians."""
        return self.quarter * math.pi / 2 + built(self.appearance).tilt

    @property
    def front(self) -> tuple[int, int] | None:
        """Direction (x, y) of its front; None for an object without one."""
        return FRONTS[self.quarter % 4] if KINDS[self.name].front else None


@dataclass(frozen=True)
class Room:
    """A furnished room; the origin is the centre of its floor, z is up.

    Attributes:
        kind: its use, a key of `datamodules.miniature.rooms.layout.USES`.
        size: width (x), depth (y), height (z) in metres.
        pieces: its objects in the order of their numbers; numbers may be missing.
        detail_seed: seed of the colours of floor and walls, of the light and of the scan.
    """

    kind: str
    size: Triple
    pieces: tuple[Piece, ...]
    detail_seed: int

    def only(self, numbers: Collection[int]) -> "Room":
        """The room with only these objects, such as those that its scan shows."""
        return replace(self, pieces=tuple(piece for piece in self.pieces if piece.number in numbers))


def box_at(appearance: Appearance, quarter: int, at: Triple) -> MinMaxBox:
    """The box of an object after `quarter` quarter turns, with the centre of its underside at a position."""
    x, y, h = built(appearance).half
    if quarter % 2:
        x, y = y, x
    return at[0] - x, at[1] - y, at[2], at[0] + x, at[1] + y, at[2] + h
