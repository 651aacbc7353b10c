"""Prompts that ask a language model for questions and answers about an annotation.

All text that is sent is in this file. The model gets the annotation as text, never an image or a point cloud.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from datamodules.instructions.annotation import Annotation, Thing

Message: TypeAlias = dict[str, str]

PICTURE = """\
You write training data for an assistant that looks at pictures. You are given the annotation of one picture as \
text. Write questions that a person who sees the picture would ask, and answers that the annotation proves.
"""

ROOM = """\
You write training data for an assistant that looks at 3D scans of rooms. You are given the annotation of one room \
as text: objects with their boxes in metres, z up. Write questions that a person who sees the room would ask, and \
answers that the annotation proves.
"""

RULES = """\
Rules:
- Name no class of object that is not in the annotation, and tell nothing that the annotation does not say.
- Never speak of the annotation, of lists or of captions: speak as if you saw it all.
- Say how many there are only of all objects of a class, and never of a class that is in a crowd.
- Write in plain English. Vary the wording. No two pairs ask the same.
Answer with JSON alone, in this form:
{"pairs": [{"kind": "...", "question": "...", "answer": "...", "objects": [...], "absent": [...]}]}
"objects" lists every object that the pair speaks of, copied from the annotation: %s.
"absent" lists the classes that the pair says are not there; it is empty in most.
"""

PICTURE_OBJECT = '{"class": "dog", "box": [0.10, 0.20, 0.50, 0.90]}'
ROOM_OBJECT = '{"id": "3", "class": "office chair"}'

ASKED = {
    "detection": (
        "1 pair of kind detection: asks for the boxes of all objects, or of all objects of classes that it names; "
        '"objects" lists each of those, and the answer is "".'
    ),
    "description": "1 pair of kind description: asks to describe the picture; the answer has two to four sentences.",
    "classification": (
        "At most 1 pair of kind classification, if one object is clearly the main one: asks what it is; the answer "
        "names its class and no other."
    ),
    "VQA": (
        "3 pairs of kind VQA: short questions with short answers, about how many there are, whether there is any, "
        "where something is, and how two things lie to each other."
    ),
    "classification3d": (
        "For each of the objects {targets} 1 pair of kind classification3d: asks what this one object is, without "
        'naming it; the answer names its class, and "objects" lists it alone.'
    ),
    "description3d": (
        "For each of the objects {targets} 1 pair of kind description3d: asks to describe this one object, without "
        "naming it; the answer is a sentence or two about what it is, its size and what it is next to, and "
        '"objects" lists it alone.'
    ),
    "VQA3D": (
        "8 pairs of kind VQA3D: short questions about the room with answers of a few words, about how many there "
        "are, whether there is any, what is on or closest to something."
    ),
}
"""The request for each `task_type`."""

ABSENT = 12
"""How many of the certainly absent classes are listed, for questions about them."""


@dataclass(frozen=True)
class Job:
    """One request.

    Attributes:
        annotation: the image or scan that it is about.
        kinds: keys of `ASKED`.
        targets: objects to name or describe; empty for an image.
    """

    annotation: Annotation
    kinds: tuple[str, ...]
    targets: tuple[Thing, ...] = ()


def messages(job: Job) -> list[Message]:
    """The chat messages of one request, a function of the job alone."""
    of_image = job.annotation.image is not None
    rules = RULES % (PICTURE_OBJECT if of_image else ROOM_OBJECT)
    targets = ", ".join(thing.id for thing in job.targets)
    asked = "\n".join(f"- {ASKED[kind].replace('{targets}', targets)}" for kind in job.kinds)
    system = f"{PICTURE if of_image else ROOM}{rules}"
    user = f"{written(job.annotation)}\nWrite these pairs:\n{asked}"
    return [{"role": "system", "content": system}, {"role": "user", "content": user}]


def written(annotation: Annotation) -> str:
    """An annotation as text."""
    if annotation.image is not None:
        lines = ["Objects with boxes [x1, y1, x2, y2], as fractions of the picture from its top left:"]
        lines += [f"{thing.label} {box(thing.box)}" for thing in annotation.things]
    else:
        lines = ["Objects with numbers and boxes [x, y, z, dx, dy, dz], centre and size in metres:"]
        lines += [f"{thing.id}: {thing.label} {box(thing.box)}" for thing in annotation.things]
    if annotation.crowds:
        lines += [f"Crowds, of which there are more than are listed: {', '.join(sorted(annotation.crowds))}"]
    if absent := some(annotation.absent, annotation.name):
        lines += [f"Certainly not there, among others: {', '.join(absent)}"]
    if annotation.captions:
        lines += ["What people say of it:", *(f"- {text}" for text in annotation.captions)]
    if annotation.descriptions:
        lines += ["What people say of single objects:"]
        lines += [
            f"- {number}: {text}" for number, texts in annotation.descriptions.items() for text in texts
        ]
    return "\n".join(lines)


def box(numbers: Sequence[float]) -> str:
    """A box as the model sees it, with two decimals."""
    return f"[{', '.join(f'{number:.2f}' for number in numbers)}]"


def some(names: list[str], seed: str) -> list[str]:
    """At most `ABSENT` of the names, a random subset fixed by the seed."""
    return sorted(random.Random(seed).sample(names, min(ABSENT, len(names))))
