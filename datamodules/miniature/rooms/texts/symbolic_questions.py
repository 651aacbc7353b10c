"""Draws questions about a room for each 3D task, with symbolic features of its objects as input."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import numpy as np

from datamodules.benchmarks.clouds.scanqa import reason_of
from datamodules.miniature.rooms.furniture.catalogue import CLASSES
from datamodules.miniature.rooms.furniture.palette import COLOURS
from datamodules.miniature.rooms.room import Room
from datamodules.miniature.rooms.symbolic import Part, alone, centred, symbols
from datamodules.miniature.rooms.texts import questions
from datamodules.miniature.rooms.texts.captions import DESCRIPTIONS, describe
from datamodules.miniature.rooms.texts.exercises import EXERCISES
from datamodules.miniature.text import with_article
from datamodules.miniature.world import pick
from octavius.instruction.sample import ClassName, DescribedObject, DescribedObjects, Gold, References

SINGLE = 0.25
"""Fraction of objects to classify that are given without room and colour, as in data sets of single objects."""

FEW = 6
"""Largest number of objects in a room to describe completely."""

UNCOLOURED = ("object", "place", "larger", "count")
"""Kinds of question that make sense without colours."""


class SymbolicQuestion(NamedTuple):
    """A question about a room.

    Attributes:
        task: a key of `octavius.tasks.TASKS`.
        rows: (O, WIDTH + 6) symbolic features and boxes of the objects.
        question: the question; empty if the task asks its own.
        gold: the right answer.
        group: a subdivision for tables; may be empty.
    """

    task: str
    rows: np.ndarray
    question: str
    gold: Gold
    group: str = ""


def ask_class(room: Room, rng: np.random.Generator, hidden: float) -> SymbolicQuestion:
    """Asks for the class of one object."""
    names = list(dict.fromkeys(piece.name for piece in room.pieces))
    name = pick(rng, names)
    piece = pick(rng, [piece for piece in room.pieces if piece.name == name])
    single = rng.random() < SINGLE
    omitted: tuple[Part, ...] = ("colour",) if single or rng.random() < hidden else ()
    rows = alone(piece, rng, omitted) if single else symbols([piece], rng, omitted, found=False)
    return SymbolicQuestion(
        "classification3d", rows, "", ClassName(name, CLASSES), "single" if single else ""
    )


def ask_description(room: Room, rng: np.random.Generator, hidden: float) -> SymbolicQuestion | None:
    """Asks for a description of one object, whose location its own features hardly reveal."""
    omitted = _omitted(("class", "colour"), rng, hidden)
    piece = pick(rng, room.pieces)
    texts: tuple[str, ...]
    if "class" in omitted:
        thing = with_article(f"{piece.size} {piece.colour} object".strip())
        texts = (f"This is {thing}.", f"It is {thing}.")
    else:
        room = uncoloured(room) if omitted else room
        piece = next(other for other in room.pieces if other.number == piece.number)
        forms = [form for form in DESCRIPTIONS if not omitted or "{colour}" not in form]
        texts = tuple(text.text for text in describe(room, piece, rng, forms=forms))
    if not texts:
        return None
    return SymbolicQuestion(
        "captioning3d", symbols([piece], rng, omitted, found=False), "", References(texts)
    )


def ask_question(room: Room, rng: np.random.Generator, hidden: float) -> SymbolicQuestion | None:
    """Asks a question of a random kind; all its possible answers are equally likely, however frequent."""
    omitted = _omitted(("colour",), rng, hidden)
    kinds = UNCOLOURED if omitted else tuple(questions.WORDINGS)
    kind = pick(rng, kinds)
    found = [
        one for one in questions.questions(uncoloured(room) if omitted else room, rng) if one.kind == kind
    ]
    if omitted:
        found = [one for one in found if not set(one.text.split()) & {*COLOURS}]
    if not found:
        return None
    usual = sorted({one.answers[0] for one in found})
    answer = pick(rng, usual)
    asked = pick(rng, [one for one in found if one.answers[0] == answer])
    answers = tuple(dict.fromkeys(_plain(text) for text in asked.answers))
    names = [piece.name for number in asked.pieces for piece in room.pieces if piece.number == number]
    gold = References(answers, reason=reason_of(names, answers[0]))
    return SymbolicQuestion("vqa3d", symbols(room.pieces, rng, omitted), _plain(asked.text), gold, kind)


def ask_for_all(room: Room, rng: np.random.Generator, hidden: float) -> SymbolicQuestion | None:  # noqa: ARG001
    """Asks for the boxes and descriptions of all objects of a room with few objects."""
    few = rng.permutation(len(room.pieces))[: int(rng.integers(1, FEW + 1))]
    room = room.only([room.pieces[index].number for index in few])
    described = [(piece, describe(room, piece, rng)) for piece in room.pieces]
    objects = [
        DescribedObject(centred(piece.box), tuple(t.text for t in texts))
        for piece, texts in described
        if texts
    ]
    if not objects:
        return None
    pieces = [piece for piece, texts in described if texts]
    return SymbolicQuestion("dense_captioning3d", symbols(pieces, rng), "", DescribedObjects(tuple(objects)))


def ask_exercise(name: str, room: Room, rng: np.random.Generator, hidden: float) -> SymbolicQuestion | None:
    """Asks an exercise of `EXERCISES`."""
    parts: dict[str, tuple[Part, ...]] = {"at": ("class", "colour"), "colours": (), "listed": ()}
    omitted = _omitted(parts.get(name, ("colour",)), rng, hidden)
    asked = EXERCISES[name](uncoloured(room) if "colour" in omitted else room, rng)
    if asked is None:
        return None
    question, answer = asked
    if "class" in omitted:
        answer = f"{answer.split()[0]} object"
    return SymbolicQuestion(
        "conversation", symbols(room.pieces, rng, omitted), question, References((answer,))
    )


KINDS: dict[str, Callable[[Room, np.random.Generator, float], SymbolicQuestion | None]] = {
    "classification3d": ask_class,
    "captioning3d": ask_description,
    "vqa3d": ask_question,
    "dense_captioning3d": ask_for_all,
    **{name: partial(ask_exercise, name) for name in EXERCISES},
}
"""Functions that draw a question, by kind; the last argument is the probability of omitting an attribute."""


def uncoloured(room: Room) -> Room:
    """The room with the colours of all objects removed."""
    pieces = [replace(piece, appearance=replace(piece.appearance, colour="")) for piece in room.pieces]
    return replace(room, pieces=tuple(pieces))


def _omitted(parts: tuple[Part, ...], rng: np.random.Generator, share: float) -> tuple[Part, ...]:
    """One of the parts, with probability `share`; otherwise none."""
    if not parts or rng.random() >= share:
        return ()
    return (pick(rng, parts),)


def _plain(text: str) -> str:
    return " ".join(text.split())
