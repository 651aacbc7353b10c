"""Places objects in a room without collisions: at walls, beside, around, in front of and on other objects."""

import numpy as np

from datamodules.instructions.relations import MinMaxBox
from datamodules.miniature.rooms.furniture.catalogue import Appearance, Shift, built, draw_appearance
from datamodules.miniature.rooms.furniture.solids import Triple
from datamodules.miniature.rooms.room import FRONTS, Piece, box_at

MARGIN = 0.05
"""Minimum distance in metres between objects that overlap in height."""

CARRIED = 0.6
"""Smallest fraction of an object's footprint that must be on the face that carries it."""

TRIES = 25
"""Number of random positions that are tried for an object."""


class Plan:
    """A room that is being furnished.

    The methods that place an object return it, or None if they found no free position. An object's frame has x to its
    right and y to its front.

    Attributes:
        pieces: the objects placed so far.
        blocked: boxes that must stay free.
    """

    def __init__(self, rng: np.random.Generator, size: Triple, shift: Shift) -> None:
        self.rng, self.size, self.shift = rng, size, shift
        self.pieces: list[Piece] = []
        self.blocked: list[MinMaxBox] = []

    def appearance(self, name: str, stands: str | None = None) -> Appearance:
        """Draws the appearance of a new object of a class."""
        return draw_appearance(self.rng, name, self.shift, stands)

    def against(self, appearance: Appearance, corner: float = 0.25) -> Piece | None:
        """Places an object with its back to a wall, with probability `corner` in a corner."""
        for _ in range(TRIES):
            quarter, gap = int(self.rng.integers(4)), self.rng.uniform(0.02, 0.08)
            along = (
                self._room(quarter)[0] - built(appearance).half[0] - 0.02
            )  # how far it may be from the wall's middle
            if along < 0:
                continue
            into_corner = self.rng.random() < corner
            position = along * self.rng.choice((-1, 1)) if into_corner else self.rng.uniform(-along, along)
            back = gap + built(appearance).half[1] - self._room(quarter)[1]
            piece = self._put(
                appearance, quarter, self._spot((0.0, 0.0), quarter, float(position), back), 0.0
            )
            if piece is not None:
                return piece
        return None

    def free(self, appearance: Appearance) -> Piece | None:
        """Places an object anywhere on the floor."""
        for _ in range(TRIES):
            quarter = int(self.rng.integers(4))
            x, y = (half - built(appearance).half[0] for half in self._room(0))
            if min(x, y) <= 0:
                return None
            position = (float(self.rng.uniform(-x, x)), float(self.rng.uniform(-y, y)))
            piece = self._put(appearance, quarter, position, 0.0)
            if piece is not None:
                return piece
        return None

    def beside(self, anchor: Piece, appearance: Appearance, side: int) -> Piece | None:
        """Places an object to the left (-1) or right (1) of another, with aligned backs."""
        gap = self.rng.uniform(MARGIN, 0.15)
        own, other = built(appearance).half, built(anchor.appearance).half
        spot = self._spot(anchor.at[:2], anchor.quarter, side * (own[0] + other[0] + gap), own[1] - other[1])
        return self._put(appearance, anchor.quarter, spot, anchor.at[2])

    def before(self, anchor: Piece, appearance: Appearance, gap: float, faces_it: bool) -> Piece | None:
        """Places an object in front of another, optionally facing it."""
        out = built(appearance).half[1] + built(anchor.appearance).half[1] + gap
        slack = built(anchor.appearance).half[0] * 0.4
        spot = self._spot(anchor.at[:2], anchor.quarter, float(self.rng.uniform(-slack, slack)), out)
        return self._put(appearance, anchor.quarter + (2 if faces_it else 0), spot, 0.0)

    def around(self, anchor: Piece, appearance: Appearance, side: int, along: float) -> Piece | None:
        """Places an object at one of the four sides of a table, facing it.

        Args:
            anchor: the table.
            appearance: the new object.
            side: quarter turns from the table's front to the side.
            along: position along the side, -1 to 1, where 0 is its middle.
        """
        gap = self.rng.uniform(MARGIN + 0.01, 0.2)
        width, depth = built(anchor.appearance).half[:2]
        reach, span = (depth, width) if side % 2 == 0 else (width, depth)
        out = reach + built(appearance).half[1] + gap
        spot = self._spot(anchor.at[:2], anchor.quarter + side, along * span, out)
        return self._put(appearance, anchor.quarter + side + 2, spot, 0.0)

    def upon(self, anchor: Piece, appearance: Appearance) -> Piece | None:
        """Places an object on top of another, if that carries at least `CARRIED` of its footprint."""
        top = built(anchor.appearance).top
        if top is None:
            return None
        height, *face = top
        own = built(appearance).half
        space = [side - half for side, half in zip(face, own, strict=False)]
        carried = [min(1.0, side / half) for side, half in zip(face, own, strict=False)]
        if carried[0] * carried[1] < CARRIED:
            return None
        for _ in range(TRIES):
            x, y = (float(self.rng.uniform(-free, free)) if free > 0 else 0.0 for free in space)
            spot = self._spot(anchor.at[:2], anchor.quarter, x, y)
            piece = self._put(appearance, anchor.quarter, spot, anchor.at[2] + height)
            if piece is not None:
                return piece
        return None

    def hung(self, appearance: Appearance) -> Piece | None:
        """Places an object on a wall, at a height in the range of its style."""
        low, high = appearance.way.hangs
        depth, tall = built(appearance).half[1], built(appearance).half[2]
        z = min(float(self.rng.uniform(low, high)), self.size[2] - tall - 0.05)
        if z < 0:
            return None
        for _ in range(TRIES):
            quarter = int(self.rng.integers(4))
            along = self._room(quarter)[0] - built(appearance).half[0] - 0.1
            if along < 0:
                continue
            back = depth + 0.005 - self._room(quarter)[1]
            spot = self._spot((0.0, 0.0), quarter, float(self.rng.uniform(-along, along)), back)
            piece = self._put(appearance, quarter, spot, z)
            if piece is not None:
                return piece
        return None

    def block(self, anchor: Piece, reach: float) -> None:
        """Keeps the floor in front of an object, such as a door, free for `reach` metres."""
        x, y = FRONTS[anchor.quarter % 4]
        x1, y1, _, x2, y2, _ = anchor.box
        self.blocked.append(
            (
                x1 + min(0, x * reach),
                y1 + min(0, y * reach),
                0.0,
                x2 + max(0, x * reach),
                y2 + max(0, y * reach),
                1.0,
            )
        )

    def fits(self, box: MinMaxBox) -> bool:
        """Whether a box is inside the room and keeps its distance from all others that overlap in height."""
        w, d, h = self.size
        if box[0] < -w / 2 or box[3] > w / 2 or box[1] < -d / 2 or box[4] > d / 2 or box[5] > h:
            return False
        x1, y1, x2, y2 = box[0] - MARGIN, box[1] - MARGIN, box[3] + MARGIN, box[4] + MARGIN
        # Shrunk a little in height, so that an object may stand on another one.
        z1, z2 = box[2] + 1e-6, box[5] - 1e-6
        return not any(
            other[0] < x2
            and other[3] > x1
            and other[1] < y2
            and other[4] > y1
            and other[2] < z2
            and other[5] > z1
            for other in (*[piece.box for piece in self.pieces], *self.blocked)
        )

    def _put(self, appearance: Appearance, quarter: int, spot: tuple[float, float], z: float) -> Piece | None:
        """Adds an object at a position, unless it collides."""
        at = (spot[0], spot[1], z)
        box = box_at(appearance, quarter, at)
        if not self.fits(box):
            return None
        piece = Piece(len(self.pieces), appearance, quarter % 4, at, box)
        self.pieces.append(piece)
        return piece

    def _room(self, quarter: int) -> tuple[float, float]:
        """Half the room's extent along x and along y of an object's frame."""
        w, d, _ = self.size
        return (d / 2, w / 2) if quarter % 2 else (w / 2, d / 2)

    def _spot(
        self, origin: tuple[float, float], quarter: int, right: float, forward: float
    ) -> tuple[float, float]:
        """The position in the room that is `right` and `forward` metres from an origin in an object's frame."""
        x, y = FRONTS[quarter % 4]
        return origin[0] + right * y + forward * x, origin[1] - right * x + forward * y
