"""Auxiliary exercises for the language model: questions with answers about several objects of a room.

They train the look-up of objects by name or position, which ordinary questions and descriptions need for a single
object. They contain nothing that is held out of training. A function returns None if the room does not allow its
exercise. Objects whose colour is omitted have an empty colour.
"""

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np

from datamodules.miniature.rooms.furniture.catalogue import CLASSES, KINDS
from datamodules.miniature.rooms.furniture.palette import COLOURS
from datamodules.miniature.rooms.room import Piece, Room
from datamodules.miniature.rooms.symbolic import centred
from datamodules.miniature.rooms.texts.captions import anchors_of, label, said
from datamodules.miniature.rooms.texts.relations import (
    HELD_OUT_RELATION_PAIRS,
    PHRASES,
    PLACES,
    PREDICATES,
    constraints_met_by,
)
from datamodules.miniature.world import pick

Exercise: TypeAlias = tuple[str, str]
"""Question and answer."""

MOST = 4
"""Largest number of objects in one exercise."""

ORDER = ("on", "carrying", "above", "below", "front", "behind", "left", "right", "next")
"""Priority of relations if several hold."""

LOCATE = ("Give the box of the {what}.", "Find the box of the {what}.", "Where is the box of the {what}?")
AT = ("What is at {where}?", "Which object is at {where}?", "What do you see at {where}?")
LIST = ("List the {what}.", "Name all {what}.", "Which {what} are there?")
ALL = ("List all things in the room.", "Say all that you see.", "List all that is in the room.")
EACH_COLOUR, EACH_PLACE = "Name the colour of each: {what}.", "Say where each stands: {what}."
AROUND = "How do these stand to the {anchor}: {what}?"

WORDINGS = (*LOCATE, *AT, *LIST, *ALL, EACH_COLOUR, EACH_PLACE, AROUND)


def colours(room: Room, rng: np.random.Generator) -> Exercise | None:
    """Colours of some objects: `chair red; desk brown`."""
    names = [piece.name for piece in room.pieces]
    clear = _drawn([piece for piece in room.pieces if names.count(piece.name) == 1], rng)
    if not clear or not all(piece.colour for piece in clear):
        return None
    asked = ", ".join(piece.name for piece in clear)
    return EACH_COLOUR.format(what=asked), "; ".join(f"{piece.name} {piece.colour}" for piece in clear)


def standing(room: Room, rng: np.random.Generator) -> Exercise | None:
    """Locations of some objects: `lamp on the desk; bed against the wall`."""
    anchors, rows = anchors_of(room), dict[str, str]()
    for piece in _drawn([piece for piece in anchors if piece.appearance.way.stands != "wall"], rng):
        true = [
            constraint
            for constraint in constraints_met_by(room, piece, anchors)
            if constraint.relation in ("on", *PLACES)
        ]
        if true and not any(constraint.held_out for constraint in true):
            rows[_label(room, piece)] = said(room, true[-1] if true[-1].relation == "on" else true[0])
    if not rows:
        return None
    return EACH_PLACE.format(what=", ".join(rows)), "; ".join(f"{name} {at}" for name, at in rows.items())


def around(room: Room, rng: np.random.Generator) -> Exercise | None:
    """Relations of some objects to one anchor: `monitor on; office chair in front of; bed apart`."""
    anchors = anchors_of(room)
    if len(anchors) < 2:
        return None
    anchor, rows = pick(rng, anchors), dict[str, str]()
    near, far = list[tuple[Piece, str]](), list[tuple[Piece, str]]()
    for piece in anchors:
        true = [relation for relation in ORDER if PREDICATES[relation](piece, anchor)]
        if piece != anchor and not any(
            (relation, anchor.name) in HELD_OUT_RELATION_PAIRS for relation in true
        ):
            (near if true else far).append((piece, true[0] if true else ""))
    for index in rng.permutation(len(near))[: MOST - 1]:
        piece, relation = near[index]
        rows[_label(room, piece)] = PHRASES[relation].removesuffix(" the {0}")
    for index in rng.permutation(len(far))[:1]:
        rows[_label(room, far[index][0])] = "apart"
    if not rows:
        return None
    rows = {name: rows[name] for name in rng.permutation(list(rows)).tolist()}
    asked = AROUND.format(anchor=_label(room, anchor), what=", ".join(rows))
    return asked, "; ".join(f"{name} {relation}" for name, relation in rows.items())


def listed(room: Room, rng: np.random.Generator) -> Exercise | None:
    """All objects of a class by colour: `red chair, blue chair`; `none` for an absent class."""
    names = [piece.name for piece in room.pieces]
    counted = sorted(set(names), key=lambda name: -names.count(name) * rng.uniform(0.3, 1))
    absent = [name for name in CLASSES if name not in names]
    pool = counted[:2] if rng.random() < 0.8 else absent
    if not all(piece.colour for piece in room.pieces) or not pool:
        return None
    name = pick(rng, pool)
    worn = [piece.colour for piece in room.pieces if piece.name == name]
    rows = [f"{colour} {name}" for colour in COLOURS for _ in range(worn.count(colour))]
    return pick(rng, LIST).format(what=KINDS[name].plural), ", ".join(rows) or "none"


def inventory(room: Room, rng: np.random.Generator) -> Exercise:
    """All objects with colours, in order along x: trains reading the input, which looking up an object needs."""
    pieces = sorted(room.pieces, key=lambda piece: centred(piece.box)[0])
    return pick(rng, ALL), ", ".join(f"{piece.colour} {piece.name}".strip() for piece in pieces)


def locate(room: Room, rng: np.random.Generator) -> Exercise | None:
    """The box of an object, written as in dense captions."""
    anchors = anchors_of(room)
    if not anchors:
        return None
    piece = pick(rng, anchors)
    return pick(rng, LOCATE).format(what=_label(room, piece)), written(centred(piece.box))


def at(room: Room, rng: np.random.Generator) -> Exercise:
    """The object at a position, the centre of its box: `red chair`."""
    piece = pick(rng, room.pieces)
    asked = pick(rng, AT).format(where=written(centred(piece.box)[:3]))
    return asked, f"{piece.colour} {piece.name}".strip()


def written(numbers: Sequence[float]) -> str:
    """Metres with two decimals.

    >>> written((1.2, -0.051))
    '[1.20, -0.05]'
    """
    return f"[{', '.join(f'{number:.2f}' for number in numbers)}]"


def _drawn(pieces: Sequence[Piece], rng: np.random.Generator) -> list[Piece]:
    """Up to `MOST` of the objects, in random order."""
    return [pieces[index] for index in rng.permutation(len(pieces))[: int(rng.integers(1, MOST + 1))]]


def _label(room: Room, piece: Piece) -> str:
    name = label(room, piece)
    assert name is not None
    return name


EXERCISES = {
    "inventory": inventory,
    "colours": colours,
    "standing": standing,
    "around": around,
    "listed": listed,
    "locate": locate,
    "at": at,
}
"""All exercises by name."""
