"""Generates questions about a room with all accepted answers, and balances the answers."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from datamodules.miniature.rooms.furniture.catalogue import CLASSES, HELD_OUT_PAIRS, KINDS
from datamodules.miniature.rooms.furniture.palette import COLOURS
from datamodules.miniature.rooms.room import Piece, Room
from datamodules.miniature.rooms.texts.captions import (
    Relations,
    allowed,
    anchors_of,
    label,
    said,
)
from datamodules.miniature.rooms.texts.relations import (
    ANCHORED,
    PLACES,
    Constraint,
    constraints_met_by,
    objects_satisfying,
)
from datamodules.miniature.text import with_article
from datamodules.miniature.world import pick

WORDINGS = {
    "object": ("What is {where}?", "Which object is {where}?", "What do you see {where}?"),
    "colour": (
        "What colour is the {ref}?",
        "Which colour does the {ref} have?",
        "What is the colour of the {ref}?",
    ),
    "count": (
        "How many {what} are there?",
        "How many {what} are in the room?",
        "How many {what} can you see?",
    ),
    "place": ("Where is the {ref}?", "Where does the {ref} stand?", "Where can you find the {ref}?"),
    "exists": ("Is there {what} in the room?", "Is {what} in this room?", "Does the room have {what}?"),
    "larger": (
        "Which is larger, the {first} or the {second}?",
        "What is bigger, the {first} or the {second}?",
    ),
}
"""Question templates by kind."""

WORDS = ("zero", "one", "two", "three", "four", "five")
"""Numbers in words; questions ask for no larger counts."""

MOST = 0.35
"""Largest fraction of one kind's questions with the same answer; yes and no are balanced by construction."""

BIGGER = 1.5
"""Smallest ratio of the volumes of two boxes in a comparison."""


@dataclass(frozen=True)
class Question:
    """A question about a room.

    Attributes:
        kind: a key of `WORDINGS`.
        text: the question.
        answers: all accepted answers, the canonical one first.
        pieces: numbers of the objects that it is about.
        constraint: the relation in it, if any.
    """

    kind: str
    text: str
    answers: tuple[str, ...]
    pieces: tuple[int, ...]
    constraint: Constraint | None = None


def questions(room: Room, rng: np.random.Generator, relations: Relations = "seen") -> list[Question]:
    """Up to 18 questions of all kinds; `relations` are those that they may use."""
    order = [room.pieces[i] for i in rng.permutation(len(room.pieces))]
    found: list[Question] = []
    for make, most in (
        (_objects, 4),
        (_colours, 3),
        (_counts, 3),
        (_places, 2),
        (_existences, 4),
        (_larger, 2),
    ):
        found += _first(make(room, order, rng, relations), most)
    return found


def balanced(found: Sequence[Question], rng: np.random.Generator) -> list[Question]:
    """Drops random questions until no canonical answer exceeds the fraction `MOST` of its kind; keeps the order."""
    kept: set[int] = set()
    for kind in WORDINGS:
        indices = [i for i, question in enumerate(found) if question.kind == kind]
        counts = Counter(found[i].answers[0] for i in indices)
        most = max(counts.values(), default=0)
        if kind != "exists":
            while most > 1 and most > MOST * sum(min(count, most) for count in counts.values()):
                most -= 1
        left = dict.fromkeys(counts, most)
        for i in rng.permutation(len(indices)):
            answer = found[indices[i]].answers[0]
            if left[answer]:
                left[answer] -= 1
                kept.add(indices[i])
    return [question for i, question in enumerate(found) if i in kept]


def _objects(
    room: Room, order: Sequence[Piece], rng: np.random.Generator, relations: Relations
) -> Iterator[Question]:
    """Which object is in a relation to an anchor, if only one is; an object is answer or first anchor only once."""
    named, done = {piece.number for piece in anchors_of(room)}, set[int]()
    tries = [(piece, relation) for piece in order if piece.number in named for relation in ANCHORED]
    for i in rng.permutation(len(tries)):
        anchor, relation = tries[i]
        anchors: tuple[Piece, ...] = (anchor,)
        if relation == "between":
            second = pick(rng, order)
            if second == anchor or second.number not in named:
                continue
            anchors = (anchor, second)
        constraint = Constraint(relation, anchors)
        right = objects_satisfying(room, room.pieces, constraint) if allowed(constraint, relations) else []
        if len(right) == 1 and right[0].number not in done and anchor.number not in done:
            done |= {right[0].number, anchor.number}
            answers = (right[0].name, f"{right[0].colour} {right[0].name}")
            yield _asked("object", rng, answers, right, constraint, where=said(room, constraint))


def _colours(
    room: Room, order: Sequence[Piece], rng: np.random.Generator, relations: Relations
) -> Iterator[Question]:
    for piece in order:
        words, constraint = _reference(room, piece, rng, relations, coloured=False)
        if words:
            yield _asked("colour", rng, (piece.colour,), [piece], constraint, ref=words)


def _counts(
    room: Room,  # noqa: ARG001
    order: Sequence[Piece],
    rng: np.random.Generator,
    relations: Relations,
) -> Iterator[Question]:
    """Number of objects of a class, or of a class and colour; some are absent."""
    names = list(dict.fromkeys(piece.name for piece in order))
    names.sort(key=lambda name: -sum(piece.name == name for piece in order) * rng.uniform(0.3, 1))
    absent = [name for name in CLASSES if name not in names]
    for name in (names[0], pick(rng, absent), *names[1:]) if names else ():
        pieces = [piece for piece in order if piece.name == name]
        what = KINDS[name].plural
        if pieces and rng.random() < 0.5:
            colours = [piece.colour for piece in pieces]
            if rng.random() < 0.4:
                colours = _possible_colours(name, relations)
            colour = pick(rng, colours)
            pieces, what = [piece for piece in pieces if piece.colour == colour], f"{colour} {what}"
        if len(pieces) < len(WORDS):
            answers = (str(len(pieces)), WORDS[len(pieces)])
            yield _asked("count", rng, answers, pieces, what=what)


def _places(
    room: Room, order: Sequence[Piece], rng: np.random.Generator, relations: Relations
) -> Iterator[Question]:
    """Where an object that is not on a wall is: on what, in which part of the room, next to what."""
    anchors = anchors_of(room)
    for piece in order:
        if piece.appearance.way.stands == "wall":
            continue
        words, constraint = _reference(room, piece, rng, relations, coloured=True)
        true = [
            one for one in constraints_met_by(room, piece, anchors) if one.relation in ("on", *PLACES, "next")
        ]
        true = [
            one
            for one in true
            if allowed(one, "seen" if relations == "seen" else "any") and one != constraint
        ]
        true.sort(key=lambda one: ("on", *PLACES, "next").index(one.relation))
        if words and true:
            answers = tuple(said(room, one) for one in true)
            yield _asked("place", rng, answers, [piece], constraint, ref=words)


def _existences(
    room: Room, order: Sequence[Piece], rng: np.random.Generator, relations: Relations
) -> Iterator[Question]:
    """Whether there is an object of a colour and class; each present one is followed by an absent one."""
    there = {(piece.colour, piece.name) for piece in room.pieces}
    for piece in order:
        if rng.random() < 0.5:
            pool = [(colour, piece.name) for colour in _possible_colours(piece.name, relations)]
        else:
            pool = [
                (piece.colour, name) for name in CLASSES if piece.colour in _possible_colours(name, relations)
            ]
        pool = [pair for pair in pool if pair not in there]
        if pool:
            other = pick(rng, pool)
            for (colour, name), answer in (((piece.colour, piece.name), "yes"), (other, "no")):
                yield _asked("exists", rng, (answer,), [piece], what=with_article(f"{colour} {name}"))


def _larger(
    room: Room,
    order: Sequence[Piece],
    rng: np.random.Generator,
    relations: Relations,  # noqa: ARG001
) -> Iterator[Question]:
    """Which of two objects is larger; pairs of one class first, in which the class does not reveal the answer."""
    named = {piece.number: words for piece in order if (words := label(room, piece))}
    pairs = [
        (a, b) for a in order for b in order if a.number != b.number and {a.number, b.number} <= {*named}
    ]
    pairs.sort(key=lambda pair: pair[0].name != pair[1].name)
    done = set[int]()
    for first, second in pairs:
        ratio = _volume(first) / _volume(second)
        if not BIGGER <= max(ratio, 1 / ratio) <= 4 or {first.number, second.number} & done:
            continue
        done |= {first.number, second.number}
        right = first if ratio > 1 else second
        answers: tuple[str, ...] = (named[right.number], f"the {named[right.number]}")
        if first.name != second.name:
            answers = tuple(dict.fromkeys((*answers, right.name)))
        names = named[first.number], named[second.number]
        yield _asked("larger", rng, answers, [first, second], first=names[0], second=names[1])


def _reference(
    room: Room, piece: Piece, rng: np.random.Generator, relations: Relations, coloured: bool
) -> tuple[str | None, Constraint | None]:
    """A phrase that is true of only this object (by class, colour or location), and the constraint in it, if any."""
    twins = [other for other in room.pieces if other.name == piece.name]
    if len(twins) == 1 and relations != "unseen":
        return piece.name, None
    if coloured and relations != "unseen" and label(room, piece):
        return label(room, piece), None
    known = [
        constraint
        for constraint in constraints_met_by(room, piece, anchors_of(room))
        if allowed(constraint, relations)
    ]
    for i in rng.permutation(len(known)):
        if objects_satisfying(room, twins, known[i]) == [piece]:
            return f"{piece.name} {said(room, known[i])}", known[i]
    return None, None


def _possible_colours(name: str, relations: Relations) -> list[str]:
    """Colours that texts may combine with a class; none that is held out, unless `relations` is `any`."""
    return [colour for colour in COLOURS if relations == "any" or (colour, name) not in HELD_OUT_PAIRS]


def _asked(
    kind: str,
    rng: np.random.Generator,
    answers: tuple[str, ...],
    pieces: Iterable[Piece],
    constraint: Constraint | None = None,
    **words: str,
) -> Question:
    form = pick(rng, WORDINGS[kind])
    return Question(kind, form.format(**words), answers, tuple(piece.number for piece in pieces), constraint)


def _first(found: Iterator[Question], most: int) -> list[Question]:
    return [question for question, _ in zip(found, range(most), strict=False)]


def _volume(piece: Piece) -> float:
    x1, y1, z1, x2, y2, z2 = piece.box
    return (x2 - x1) * (y2 - y1) * (z2 - z1)
