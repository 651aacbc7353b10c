"""Generates furnished rooms: furniture for the use of the room, extras, and twins that texts must distinguish."""

from collections.abc import Callable, Sequence
from typing import Literal, TypeAlias

import numpy as np

from datamodules.miniature.rooms.furniture.catalogue import UNSEEN_CLASSES, Appearance, other_than
from datamodules.miniature.rooms.plan import Plan
from datamodules.miniature.rooms.room import Piece, Room
from datamodules.miniature.world import pick

Change: TypeAlias = Literal["none", "pairs", "classes"]
"""How objects differ from those of training: not at all, held-out pairs and styles, or held-out classes."""

AT_WALLS = frozenset(
    (
        *("bed", "bench", "bookshelf", "bunk bed", "cabinet", "desk", "dresser", "piano", "refrigerator"),
        *("sink", "sofa", "toilet", "tv stand", "wardrobe"),
    )
)
"""Classes that always have their back to a wall; others do half of the time."""

LONE = frozenset(("bathtub", "bed", "door", "toilet", "window"))
"""Classes of which no twins are made."""


def make_room(rng: np.random.Generator, change: Change = "none") -> Room:
    """Draws a furnished room with up to about twenty objects."""
    kind = pick(rng, tuple(USES))
    least, most = (2.8, 4.4) if kind == "bathroom" else (3.6, 6.6)
    size = (rng.uniform(least, most), rng.uniform(least, min(most, 6.0)), rng.uniform(2.4, 2.8))
    plan = Plan(rng, size, "pairs" if change == "pairs" else "none")
    _openings(plan)
    if change == "classes":
        for index in rng.permutation(len(UNSEEN_CLASSES))[: int(rng.integers(2, 5))]:
            _stand(plan, plan.appearance(UNSEEN_CLASSES[index]))
    furnish, extras = USES[kind]
    furnish(plan)
    wanted = int(rng.integers(8, 13) if kind == "bathroom" else rng.integers(10, 18))
    for _ in range(2 * wanted):
        if len(plan.pieces) >= wanted:
            break
        _stand(plan, plan.appearance(pick(rng, extras)))
    for _ in range(2):
        if rng.random() < 0.6:
            _twin(plan)
    return Room(kind, plan.size, tuple(plan.pieces), int(rng.integers(2**31)))


def _openings(plan: Plan) -> None:
    """Optionally a door with free floor in front, windows and a curtain."""
    door = plan.hung(plan.appearance("door")) if plan.rng.random() < 0.5 else None
    if door is not None:
        plan.block(door, 0.6)
    for name, often in (("window", 0.6), ("window", 0.1), ("curtain", 0.6)):
        if plan.rng.random() < often:
            plan.hung(plan.appearance(name))


def _stand(plan: Plan, appearance: Appearance) -> Piece | None:
    """Places an object where objects of its class and style stand: on a wall, on another object or on the floor."""
    carriers = [piece for piece in plan.pieces if piece.appearance.way.top]
    if appearance.way.stands == "wall":
        return plan.hung(appearance)
    if appearance.way.stands == "top" or (appearance.name == "box" and plan.rng.random() < 0.4):
        for index in plan.rng.permutation(len(carriers)):
            piece = plan.upon(carriers[index], appearance)
            if piece is not None:
                return piece
        return None
    if appearance.name in AT_WALLS or plan.rng.random() < 0.5:
        return plan.against(appearance)
    return plan.free(appearance)


def _twin(plan: Plan) -> Piece | None:
    """Adds an object that differs from an existing one in colour, in size, or only in position."""
    models = [piece.appearance for piece in plan.pieces if piece.name not in LONE]
    if not models:
        return None
    appearance = pick(plan.rng, models)
    attribute = pick(plan.rng, ("colour", "size", "place"))
    return _stand(plan, appearance if attribute == "place" else other_than(appearance, plan.rng, attribute))


def _bedroom(plan: Plan) -> None:
    bed = plan.against(plan.appearance("bed"))
    for side in (-1, 1):
        if bed is not None and plan.rng.random() < 0.7:
            stand = plan.beside(bed, plan.appearance("nightstand"), side)
            if stand is not None and plan.rng.random() < 0.6:
                plan.upon(stand, plan.appearance("lamp", "top"))
    plan.against(plan.appearance(pick(plan.rng, ("wardrobe", "dresser"))))
    if plan.rng.random() < 0.3:
        _desk(plan)


def _living_room(plan: Plan) -> None:
    sofa = plan.against(plan.appearance("sofa"), corner=0.1)
    if sofa is not None and plan.rng.random() < 0.8:
        plan.before(sofa, plan.appearance("coffee table"), plan.rng.uniform(0.3, 0.5), faces_it=False)
    stand = plan.against(plan.appearance("tv stand"), corner=0.1)
    if stand is not None and plan.rng.random() < 0.8:
        plan.upon(stand, plan.appearance("tv", "top"))
    for _ in range(int(plan.rng.integers(3))):
        _stand(plan, plan.appearance("armchair"))


def _office(plan: Plan) -> None:
    for _ in range(int(plan.rng.integers(1, 4))):
        _desk(plan)
    if plan.rng.random() < 0.6:
        plan.hung(plan.appearance("whiteboard"))


def _desk(plan: Plan) -> None:
    """A desk, its chair, and something on it."""
    desk = plan.against(plan.appearance("desk"))
    if desk is None:
        return
    if plan.rng.random() < 0.85:
        plan.before(desk, plan.appearance("office chair"), plan.rng.uniform(0.06, 0.3), faces_it=True)
    for _ in range(int(plan.rng.integers(1, 3))):
        _upon(plan, desk, ("monitor", "monitor", "lamp", "box"))


def _dining_room(plan: Plan) -> None:
    table = plan.free(plan.appearance("table"))
    if table is None:
        return
    chair = plan.appearance("chair")
    x1, y1, _, x2, y2, _ = table.box
    pair = (-0.5, 0.5) if max(x2 - x1, y2 - y1) > 1.2 else (0.0,)
    seats = [*[(side, along) for side in (0, 2) for along in pair], (1, 0.0), (3, 0.0)]
    mixed = plan.rng.random() < 0.3
    for index in plan.rng.permutation(len(seats))[: int(plan.rng.integers(2, 7))]:
        plan.around(table, plan.appearance("chair") if mixed else chair, *seats[index])
    if plan.rng.random() < 0.5:
        _upon(plan, table, ("lamp", "box"))


def _upon(plan: Plan, carrier: Piece, names: Sequence[str]) -> None:
    name = pick(plan.rng, names)
    plan.upon(carrier, plan.appearance(name, None if name == "box" else "top"))


def _bathroom(plan: Plan) -> None:
    plan.against(plan.appearance("bathtub"), corner=0.7)
    for name in ("toilet", "sink"):
        plan.against(plan.appearance(name))


ANYWHERE = ("bookshelf", "box", "lamp", "picture", "plant", "stool", "trash can")
"""Classes of extras in all rooms."""
USES: dict[str, tuple[Callable[[Plan], None], tuple[str, ...]]] = {
    "bedroom": (
        _bedroom,
        (*ANYWHERE, "armchair", "cabinet", "chair", "coffee table", "dresser", "tv", "wardrobe"),
    ),
    "living room": (
        _living_room,
        (*ANYWHERE, "armchair", "bench", "cabinet", "refrigerator", "tv", "whiteboard"),
    ),
    "office": (_office, (*ANYWHERE, "bench", "cabinet", "refrigerator", "sink", "sofa", "table", "wardrobe")),
    "dining room": (
        _dining_room,
        (*ANYWHERE, "cabinet", "dresser", "refrigerator", "sink", "tv stand", "whiteboard"),
    ),
    "bathroom": (
        _bathroom,
        (*ANYWHERE, "bench", "cabinet", "coffee table", "nightstand", "toilet", "wardrobe"),
    ),
}
"""For each room use, the function that furnishes it, and the classes of extras."""
