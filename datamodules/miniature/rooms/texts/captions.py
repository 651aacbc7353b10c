"""Referring expressions: descriptions and short utterances that fit only one object of a room."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from string import Formatter
from typing import Literal, TypeAlias

import numpy as np

from datamodules.miniature.rooms.room import Piece, Room
from datamodules.miniature.rooms.texts.relations import (
    PHRASES,
    PLACES,
    Constraint,
    constraints_met_by,
    objects_satisfying,
)
from datamodules.miniature.text import with_article

DESCRIPTIONS = (
    "This is {thing}. It is {where}.",
    "The {name} is {colour}. It is {where}.",
    "There is {thing} {where}.",
    "{Thing}. The {name} is {where}.",
    "It is {thing} and it is {where}.",
)
"""Templates of descriptions, for training and evaluation."""

UTTERANCES = (
    "choose the {colour} {name} that is {where}",
    "pick the {name} {where}",
    "the {colour} one {where}",
    "select the {sized}, the one {where}",
    "find the {sized} that is {where}",
)
"""Templates of short utterances, for evaluation only."""

FIELDS = {
    "thing": ("size", "colour", "name"),
    "Thing": ("size", "colour", "name"),
    "sized": ("size", "name"),
    "name": ("name",),
    "colour": ("colour",),
    "where": (),
}
"""Attributes of an object that each template field mentions."""

Relations: TypeAlias = Literal["seen", "unseen", "any"]
"""Which relations are used: those of training, only held-out ones, or all."""

PLACE_FIRST = 0.5
"""Probability of preferring a place in the room, such as a corner, to a relation to another object."""


@dataclass(frozen=True)
class Text:
    """A text that is true of only one object.

    Attributes:
        text: the text.
        constraint: the spatial constraint in it.
        form: its template.
    """

    text: str
    constraint: Constraint
    form: str


def describe(
    room: Room,
    piece: Piece,
    rng: np.random.Generator,
    relations: Relations = "seen",
    forms: Sequence[str] = DESCRIPTIONS,
    count: int = 3,
) -> list[Text]:
    """Up to `count` texts from different templates that fit no other object of the room."""
    known = [constraint for constraint in _all_constraints(room, piece) if allowed(constraint, relations)]
    texts: list[Text] = []
    for index in rng.permutation(len(forms)):
        form = forms[index]
        order = [known[i] for i in rng.permutation(len(known))]
        if rng.random() < PLACE_FIRST:
            order.sort(key=lambda constraint: constraint.relation not in PLACES)
        for constraint in order:
            if fitting(room, piece, form, constraint) == [piece]:
                texts.append(Text(_worded(room, piece, form, constraint), constraint, form))
                break
        if len(texts) == count:
            break
    return texts


def fitting(room: Room, piece: Piece, form: str, constraint: Constraint) -> list[Piece]:
    """The objects of which a text is true that a template makes about `piece` with a constraint.

    A superlative such as "closest" compares the objects of the same class, or of the same colour if the template does
    not name the class.
    """
    said_of = mentioned(form)
    first = "name" if "name" in said_of else "colour"
    pool = [other for other in room.pieces if getattr(other, first) == getattr(piece, first)]
    pool = objects_satisfying(room, pool, constraint)
    for attribute in said_of - {first}:
        wanted = getattr(piece, attribute)
        pool = [other for other in pool if not wanted or getattr(other, attribute) == wanted]
    return pool


@cache
def mentioned(form: str) -> frozenset[str]:
    """The attributes that a template mentions.

    >>> sorted(mentioned("find the {sized} that is {where}"))
    ['name', 'size']
    """
    fields = {field for _, field, _, _ in Formatter().parse(form) if field}
    return frozenset(attribute for field in fields for attribute in FIELDS[field])


def allowed(constraint: Constraint, relations: Relations) -> bool:
    """Whether a constraint may be used."""
    return relations == "any" or constraint.held_out == (relations == "unseen")


def label(room: Room, piece: Piece) -> str | None:
    """An unambiguous name of an object: its class, or colour and class; None if neither is unique in the room."""
    twins = [other for other in room.pieces if other.name == piece.name]
    if len(twins) == 1:
        return piece.name
    if sum(other.colour == piece.colour for other in twins) == 1:
        return f"{piece.colour} {piece.name}"
    return None


def said(room: Room, constraint: Constraint) -> str:
    """A constraint in words, such as `on the desk`."""
    names = [label(room, anchor) for anchor in constraint.anchors]
    assert all(names), constraint
    return PHRASES[constraint.relation].format(*names)


def anchors_of(room: Room) -> list[Piece]:
    """The objects that have an unambiguous name."""
    return [piece for piece in room.pieces if label(room, piece) is not None]


def _all_constraints(room: Room, piece: Piece) -> Iterator[Constraint]:
    """All constraints that an object's location satisfies, including superlatives within its class."""
    anchors = anchors_of(room)
    yield from constraints_met_by(room, piece, anchors)
    twins = [other for other in room.pieces if other.name == piece.name]
    for anchor in anchors if len(twins) > 1 else ():
        for relation in ("closest", "farthest"):
            constraint = Constraint(relation, (anchor,))
            if anchor not in twins and objects_satisfying(room, twins, constraint) == [piece]:
                yield constraint


def _worded(room: Room, piece: Piece, form: str, constraint: Constraint) -> str:
    thing = with_article(" ".join(filter(None, (piece.size, piece.colour, piece.name))))
    return form.format(
        thing=thing,
        Thing=thing[0].upper() + thing[1:],
        sized=f"{piece.size} {piece.name}".strip(),
        name=piece.name,
        colour=piece.colour,
        where=said(room, constraint),
    )
