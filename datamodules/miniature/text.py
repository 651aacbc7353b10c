"""Templates and generators of captions, questions and textual descriptions of scenes and faces."""

from dataclasses import dataclass, replace

import numpy as np

from datamodules.miniature.world import COLOURS, SHAPES, Face, Scene, Thing, pick

WORDINGS = {
    "count": (
        "How many objects are there?",
        "Count the objects in the picture.",
        "What is the number of objects?",
        "How many objects does this picture show?",
        "Say how many objects you see.",
        "What is the count of the things?",
        "Tell me how many things are here.",
        "In this picture, how many objects are there?",
        "The picture shows how many things?",
        "How many things can you see?",
    ),
    "colour": (
        "What colour is the {shape}?",
        "Which colour does the {shape} have?",
        "Tell me the colour of the {shape}.",
        "What is the colour of the {shape}?",
        "Say which colour the {shape} is.",
        "In which colour is the {shape}?",
        "Look at the {shape}: which colour is it?",
        "Name the colour that the {shape} has.",
        "Do you see the {shape}? Tell me its colour.",
        "The {shape} is of which colour?",
    ),
    "object": (
        "What is the {colour} object?",
        "Which object is {colour}?",
        "Name the {colour} thing in the picture.",
        "Which of the things is {colour}?",
        "Say what the {colour} thing is.",
        "What can you see in {colour}?",
        "Look for {colour}: which object is it?",
        "Tell me which of the objects is {colour}.",
        "In {colour}, what do you see?",
        "What is the object that is {colour}?",
    ),
    "side": (
        "Is the {first} left or right of the {second}?",
        "On which side of the {second} is the {first}?",
        "Where is the {first}, left or right of the {second}?",
        "Does the {first} stand left or right of the {second}?",
        "Seen from the {second}, is the {first} on the left or on the right?",
        "Say on which side of the {second} the {first} is.",
        "Left or right: where is the {first} as seen from the {second}?",
        "Look at the {second}. Is the {first} left or right of it?",
        "Is it left or right of the {second} that the {first} stands?",
        "Which side of the {second} is the {first} on?",
    ),
    "level": (
        "Is the {first} above or below the {second}?",
        "Is the {first} higher or lower than the {second}, above or below?",
        "Where is the {first}, above or below the {second}?",
        "Does the {first} stand above or below the {second}?",
        "Seen from the {second}, is the {first} above or below?",
        "Say whether the {first} is above or below the {second}.",
        "Higher or lower, above or below: how does the {first} stand to the {second}?",
        "Look at the {second}. Is the {first} above or below it?",
        "Is it above or below the {second} that the {first} stands?",
        "Above or below the {second}, where is the {first}?",
    ),
}
"""Question templates by kind; the last of each kind is held out of all training."""

SIDES = (("left", "right"), ("above", "below"))
"""Relative positions of two objects, by axis."""

LOOK_UP_WORDINGS = (
    "Where is the {what}?",
    "Find the {what}.",
    "Give the box of the {what}.",
    "Show the {what}.",
)
"""Templates of questions for the boxes of named objects."""

HAIR_QUESTIONS = (
    "What is the hair colour of this person?",
    "Which colour is the hair?",
    "Tell me the hair colour.",
)
SMILE_QUESTIONS = ("Is this person smiling?", "Does this person smile?", "Can you see a smile?")


@dataclass(frozen=True)
class Question:
    """A multiple-choice question.

    Attributes:
        kind: a key of `WORDINGS`.
        text: the question.
        options: the options.
        answer: index of the right option.
        reason: text that precedes the answer in training; may be empty.
    """

    kind: str
    text: str
    options: tuple[str, ...]
    answer: int
    reason: str = ""


def name(thing: Thing) -> str:
    """Name of an object: `red ball`, `ball` if its colour is omitted, `red object` if its shape is."""
    return f"{thing.colour} {thing.shape or 'object'}".strip()


def captions(scene: Scene) -> tuple[str, ...]:
    """Five true captions of a scene, with objects named from left to right."""
    names = [with_article(name(thing)) for thing in scene.things]
    row = names[0] if len(names) == 1 else ", ".join(names[:-1]) + " and " + names[-1]
    return (
        f"A picture of {row}.",
        f"There is {row}.",
        f"{row[0].upper()}{row[1:]} on a light background.",
        f"This picture shows {row}.",
        f"You can see {row} in the picture.",
    )


def face_captions(face: Face) -> tuple[str, ...]:
    """Five true captions of a face: hair, smile, glasses."""
    mood = "a smiling face" if face.smile else "a serious face"
    extra = " and glasses" if face.glasses else ""
    length = "long" if face.long_hair else "short"
    return (
        f"A picture of {mood} with {face.hair} hair{extra}.",
        f"There is {mood} with {length} {face.hair} hair{extra}.",
        f"{mood[0].upper()}{mood[1:]} with {face.hair} hair{extra} on a light background.",
        f"This picture shows {mood} with {length} {face.hair} hair{extra}.",
        f"You can see {mood} with {face.hair} hair{extra} in the picture.",
    )


def positions(scene: Scene) -> str:
    """A caption that states the position of each object on a 3 x 3 grid, for contrastive training."""
    phrases = []
    for thing in scene.things:
        x, y = thing.centre
        column = ("left", "middle", "right")[min(2, int(x * 3))]
        row = ("top", "centre", "bottom")[min(2, int(y * 3))]
        phrases.append(f"{with_article(name(thing))} at the {row} {column}")
    return ", ".join(phrases)


def ask(scene: Scene, kind: str, rng: np.random.Generator, unseen: bool = False) -> Question | None:
    """Draws a question of a kind (a key of `WORDINGS`); None if none is unambiguous in this scene."""
    forms = WORDINGS[kind]
    form = forms[-1] if unseen else forms[int(rng.integers(len(forms) - 1))]
    if kind == "count":
        return _lettered(kind, form, str(len(scene.things)), ("1", "2", "3", "4"), rng, 4)
    if kind in ("colour", "object"):
        attribute, answer = ("shape", "colour") if kind == "colour" else ("colour", "shape")
        keys = [getattr(thing, attribute) for thing in scene.things]
        clear = [thing for thing in scene.things if keys.count(getattr(thing, attribute)) == 1]
        if not clear:
            return None
        thing = pick(rng, clear)
        pool = COLOURS if kind == "colour" else SHAPES
        text = form.format(**{attribute: getattr(thing, attribute)})
        near = [getattr(other, answer) for other in scene.things if other is not thing]
        asked = _lettered(kind, text, getattr(thing, answer), pool, rng, 4, near)
        return replace(asked, reason=_stated(thing, attribute, answer))
    axis = ("side", "level").index(kind)
    pairs = [(a, b) for a in scene.things for b in scene.things if a is not b and _relation(a, b, axis)]
    if not pairs:
        return None
    first, second = pick(rng, pairs)
    text = form.format(first=name(first), second=name(second))
    asked = _lettered(kind, text, _relation(first, second, axis), SIDES[axis], rng, 2)
    return replace(asked, reason=f"{name(first)}, {name(second)} {_relation(first, second, axis)}")


def look_up(scene: Scene, rng: np.random.Generator) -> tuple[str, dict[str, Thing]]:
    """Draws a question for the boxes of one or two objects that have unambiguous names.

    Returns:
        The question, and the objects by the names used in it.

    Raises:
        ValueError: no object has an unambiguous name.
    """
    fitting: dict[str, list[Thing]] = {}
    for thing in scene.things:
        for words in {name(thing), thing.shape, f"{thing.colour} object" if thing.colour else ""} - {""}:
            fitting.setdefault(words, []).append(thing)
    clear = sorted(words for words, things in fitting.items() if len(things) == 1)
    if not clear:
        raise ValueError("no object of this scene has an unambiguous name")
    asked = {pick(rng, clear): None}
    others = [words for words in clear if fitting[words] != fitting[next(iter(asked))]]
    if others and rng.random() < 0.5:
        asked[pick(rng, others)] = None
    form = pick(rng, LOOK_UP_WORDINGS)
    return form.format(what=" and the ".join(asked)), {words: fitting[words][0] for words in asked}


def compare(scene: Scene, rng: np.random.Generator) -> tuple[str, str] | None:
    """Draws a question for the relative positions of up to three objects, in random order.

    Returns:
        The question and its answer, such as `red ball, blue box left above; ...`. None if names are not unique, or
        no two objects are far enough apart.
    """
    things = [scene.things[index] for index in rng.permutation(len(scene.things))[:3]]
    names = [name(thing) for thing in things]
    rows = []
    for position, first in enumerate(things):
        for second in things[position + 1 :]:
            words = [_relation(first, second, axis) for axis in (0, 1)]
            if any(words):
                said = " ".join(word for word in words if word)
                rows.append(f"{name(first)}, {name(second)} {said}")
    if not rows or len(set(names)) < len(names):
        return None
    return f"Compare the {_listed(names)}.", "; ".join(rows)


def attributes(scene: Scene, rng: np.random.Generator) -> tuple[str, str] | None:
    """Draws a question for the colours of some shapes, or for the shapes of some colours, in random order.

    Returns:
        The question and its answer, such as `ball red; ...`. None if no shape (or colour) is unique.
    """
    known, wanted = ("shape", "colour") if rng.random() < 0.5 else ("colour", "shape")
    keys = [getattr(thing, known) for thing in scene.things]
    clear = [thing for thing in scene.things if keys.count(getattr(thing, known)) == 1]
    if not clear or not all(thing.shape and thing.colour for thing in clear):
        return None
    things = [clear[index] for index in rng.permutation(len(clear))]
    asked = ", ".join(getattr(thing, known) for thing in things)
    return f"Name the {wanted} of each: {asked}.", "; ".join(
        _stated(thing, known, wanted) for thing in things
    )


def write_scene(scene: Scene) -> str:
    """A scene as text with boxes; the language model is pre-trained on it, without images."""
    rows = ", ".join(
        f"{name(thing)} [{', '.join(f'{edge:.2f}' for edge in thing.box)}]" for thing in scene.things
    )
    return f"Scene: {rows}."


def write_face(face: Face) -> str:
    """A face as text; see `write_scene`."""
    mood = "smiling" if face.smile else "serious"
    length = "long" if face.long_hair else "short"
    glasses = "glasses" if face.glasses else "no glasses"
    return f"Scene: {mood} face, {length} {face.hair} hair, {glasses}."


def _relation(first: Thing, second: Thing, axis: int) -> str:
    """Relative position of the first to the second object along an axis; empty if too close."""
    gap = first.centre[axis] - second.centre[axis]
    return SIDES[axis][int(gap > 0)] if abs(gap) > 0.12 else ""


def _listed(names: list[str]) -> str:
    return " and the ".join([", the ".join(names[:-1]), names[-1]]) if len(names) > 1 else names[0]


def _stated(thing: Thing, known: str, wanted: str) -> str:
    """The given attribute of an object, then the one asked for, such as `ball red`."""
    return f"{getattr(thing, known)} {getattr(thing, wanted)}".strip()


def with_article(words: str) -> str:
    """Prepends the indefinite article."""
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


def _lettered(
    kind: str,
    text: str,
    right: str,
    pool: tuple[str, ...],
    rng: np.random.Generator,
    size: int,
    near: list[str] | None = None,
) -> Question:
    """A question with `size` options in random order; wrong ones come from the scene (`near`) first, then `pool`."""
    near_wrong = [option for option in dict.fromkeys(near or []) if option != right]
    far_wrong = [option for option in pool if option != right and option not in near_wrong]
    wrong = (near_wrong + [far_wrong[i] for i in rng.permutation(len(far_wrong))])[: size - 1]
    options = [right, *wrong]
    options = [options[i] for i in rng.permutation(len(options))]
    return Question(kind, text, tuple(options), options.index(right))
