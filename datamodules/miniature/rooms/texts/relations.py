"""Spatial relations between objects, computed from boxes and independent of the layout generator.

`left`, `right`, `front` and `behind` are in the anchor's intrinsic frame of reference, that of someone who sits in
it; anchors without a front do not have them.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from datamodules.instructions.relations import (
    CONTACT_TOLERANCE,
    MAX_NEXT_TO_GAP,
    MIN_MARGIN,
    MIN_SUPPORT_OVERLAP,
    MinMaxBox,
    footprint_area,
    footprint_overlap,
    gap,
)
from datamodules.miniature.rooms.furniture.catalogue import CLASSES
from datamodules.miniature.rooms.room import Piece, Room

MAX_FOOTPRINT_RATIO = 1.5
"""`on`: maximum ratio of the object's footprint area to that of its support."""
MIN_VERTICAL_GAP = 0.06
"""`above`, `below`: minimum gap in metres."""
MIN_OVERLAP = 0.2
"""`above`, `below`: minimum shared fraction of the smaller footprint."""
MAX_DIRECTIONAL_GAP = 1.5
"""`left`, `right`, `front`, `behind`: maximum gap in metres."""
MAX_WALL_DISTANCE = 0.15
"""`wall`, `corner`: maximum distance to a wall in metres."""
MIN_FRACTION_BETWEEN = 0.51
"""`between`: minimum fraction of the object's footprint that lies between the anchors."""
MAX_CENTRE_OFFSET = 0.2
"""`middle`: maximum distance between object and room centres along each axis, as a fraction of the room's size."""

PHRASES = {
    "on": "on the {0}",
    "carrying": "carrying the {0}",
    "above": "above the {0}",
    "below": "below the {0}",
    "closest": "closest to the {0}",
    "farthest": "farthest from the {0}",
    "next": "next to the {0}",
    "left": "left of the {0}",
    "right": "right of the {0}",
    "front": "in front of the {0}",
    "behind": "behind the {0}",
    "between": "between the {0} and the {1}",
    "corner": "in the corner",
    "wall": "against the wall",
    "middle": "in the middle of the room",
}
"""Phrase template of each relation; {0} and {1} are anchors. Relations in `PLACES` take no anchors."""

PLACES = ("corner", "wall", "middle")
ANCHORED = tuple(relation for relation in PHRASES if relation not in PLACES)

HELD_OUT_RELATION_PAIRS = frozenset(
    (relation, name)
    for i, relation in enumerate(ANCHORED)
    for j, name in enumerate(CLASSES)
    if (i + 3 * j) % 7 == 0
)
"""Pairs of relation and anchor class that never occur in training, about one in seven.

Each relation and each class still occurs there, in other pairs.
"""


@dataclass(frozen=True)
class Constraint:
    """A spatial constraint on an object that is not named: a relation and its zero, one or two anchors."""

    relation: str
    anchors: tuple[Piece, ...] = ()

    @property
    def held_out(self) -> bool:
        """Whether the pair of the relation and one anchor's class is held out from training."""
        return any((self.relation, anchor.name) in HELD_OUT_RELATION_PAIRS for anchor in self.anchors)


def objects_satisfying(room: Room, candidates: Sequence[Piece], constraint: Constraint) -> list[Piece]:
    """The candidates that satisfy a constraint; "closest" and "farthest" compare the candidates with each other."""
    candidates = [piece for piece in candidates if piece not in constraint.anchors]
    if constraint.relation in PLACES:
        return [piece for piece in candidates if constraint.relation in places_of(room, piece)]
    if constraint.relation in ("closest", "farthest"):
        return _extreme(candidates, constraint.anchors[0], nearest=constraint.relation == "closest")
    if constraint.relation == "between":
        return [
            piece
            for piece in candidates
            if between(piece.box, constraint.anchors[0].box, constraint.anchors[1].box)
        ]
    holds = PREDICATES[constraint.relation]
    return [piece for piece in candidates if holds(piece, constraint.anchors[0])]


def constraints_met_by(room: Room, piece: Piece, anchors: Sequence[Piece]) -> Iterator[Constraint]:
    """All constraints except superlatives that an object satisfies, alone or relative to the given anchors."""
    others = [anchor for anchor in anchors if anchor != piece]
    yield from (Constraint(place) for place in PLACES if place in places_of(room, piece))
    for anchor in others:
        yield from (
            Constraint(relation, (anchor,)) for relation, holds in PREDICATES.items() if holds(piece, anchor)
        )
    for i, first in enumerate(others):
        for second in others[i + 1 :]:
            if between(piece.box, first.box, second.box):
                yield Constraint("between", (first, second))


def places_of(room: Room, piece: Piece) -> tuple[str, ...]:
    """Which of corner, wall and middle hold; what is in a corner is also at a wall."""
    w, d, _ = room.size
    x1, y1, _, x2, y2, _ = piece.box
    at_x = min(x1 + w / 2, w / 2 - x2) < MAX_WALL_DISTANCE
    at_y = min(y1 + d / 2, d / 2 - y2) < MAX_WALL_DISTANCE
    central = abs(x1 + x2) / 2 < MAX_CENTRE_OFFSET * w and abs(y1 + y2) / 2 < MAX_CENTRE_OFFSET * d
    found = (("corner", at_x and at_y), ("wall", at_x or at_y), ("middle", central and not (at_x or at_y)))
    return tuple(place for place, holds in found if holds)


def on(piece: Piece, anchor: Piece) -> bool:
    """Whether an object rests on the anchor."""
    return (
        abs(piece.box[2] - anchor.box[5]) <= CONTACT_TOLERANCE
        and footprint_overlap(piece.box, anchor.box) >= MIN_SUPPORT_OVERLAP
        and footprint_area(piece.box) <= MAX_FOOTPRINT_RATIO * footprint_area(anchor.box)
    )


def above(piece: Piece, anchor: Piece) -> bool:
    """Whether an object is above the anchor without touching it."""
    return (
        piece.box[2] - anchor.box[5] >= MIN_VERTICAL_GAP
        and footprint_overlap(piece.box, anchor.box) >= MIN_OVERLAP
    )


def between(box: MinMaxBox, first: MinMaxBox, second: MinMaxBox) -> bool:
    """Whether a box overlaps two others in height, and most of its footprint lies between them.

    The space between is a rectangle on the floor: along one axis the gap between the two boxes, along the other axis
    the interval in which they overlap.
    """
    if any(min(box[5], other[5]) <= max(box[2], other[2]) for other in (first, second)):
        return False
    for i, j in ((0, 1), (1, 0)):
        low, high = sorted((first, second), key=lambda side: side[i])
        strip = (low[i + 3], max(low[j], high[j]), high[i], min(low[j + 3], high[j + 3]))
        along = min(box[i + 3], strip[2]) - max(box[i], strip[0])
        across = min(box[j + 3], strip[3]) - max(box[j], strip[1])
        if along > 0 and across > 0 and along * across > MIN_FRACTION_BETWEEN * footprint_area(box):
            return True
    return False


def _in_direction(right: int, forward: int) -> Callable[[Piece, Piece], bool]:
    """Makes a predicate: the object lies in a direction from the anchor, in the anchor's frame.

    Its centre lies beyond the anchor's face in that direction and, seen from the anchor's centre, within 45 degrees
    of the direction. It overlaps the anchor in height, and is at most `MAX_DIRECTIONAL_GAP` away. The front of an
    anchor points along an axis of the room.

    Args:
        right: component of the direction to the right of the anchor: -1, 0 or 1.
        forward: component to its front: -1, 0 or 1.
    """

    def holds(piece: Piece, anchor: Piece) -> bool:
        if anchor.front is None or gap(piece.box, anchor.box) > MAX_DIRECTIONAL_GAP:
            return False
        if min(piece.box[5], anchor.box[5]) <= max(piece.box[2], anchor.box[2]):
            return False
        fx, fy = anchor.front
        x, y = right * fy + forward * fx, -right * fx + forward * fy
        dx, dy = ((piece.box[i] + piece.box[i + 3] - anchor.box[i] - anchor.box[i + 3]) / 2 for i in range(2))
        half_extent = (anchor.box[3] - anchor.box[0]) / 2 if x else (anchor.box[4] - anchor.box[1]) / 2
        along, lateral = dx * x + dy * y, abs(dx * y) + abs(dy * x)
        return along > half_extent and along > lateral

    return holds


PREDICATES: dict[str, Callable[[Piece, Piece], bool]] = {
    "on": on,
    "carrying": lambda piece, anchor: on(anchor, piece),
    "above": above,
    "below": lambda piece, anchor: above(anchor, piece),
    "next": lambda piece, anchor: (
        gap(piece.box, anchor.box) < MAX_NEXT_TO_GAP and not on(piece, anchor) and not on(anchor, piece)
    ),
    "left": _in_direction(-1, 0),
    "right": _in_direction(1, 0),
    "front": _in_direction(0, 1),
    "behind": _in_direction(0, -1),
}
"""Relations to one anchor that depend on these two objects only."""


def _extreme(candidates: Sequence[Piece], anchor: Piece, nearest: bool) -> list[Piece]:
    """The nearest or farthest object; empty if there are fewer than two or the runner-up is within `MIN_MARGIN`."""
    ranked = sorted(
        (gap(piece.box, anchor.box) * (1 if nearest else -1), piece.number) for piece in candidates
    )
    if len(ranked) < 2 or ranked[1][0] - ranked[0][0] < MIN_MARGIN:
        return []
    return [piece for piece in candidates if piece.number == ranked[0][1]]
