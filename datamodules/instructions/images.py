"""Template-based instruction data about an image, as items of LAMM's JSON."""

import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeAlias
from xml.sax.saxutils import escape

from datamodules.benchmarks.conversations import EDGES
from datamodules.instructions.annotation import Annotation, Thing
from datamodules.instructions.wordings import (
    CLASSIFICATION,
    COUNTING,
    PLACE,
    PRESENCE,
    SIDE,
    QuestionAnswer,
    plural,
    with_article,
)
from octavius.tasks import TASKS

Item: TypeAlias = dict[str, Any]
"""One entry of an instruction file."""

Talk: TypeAlias = tuple[str, str]
"""A question and its answer."""

MIN_AREA, MIN_AREA_RATIO = 0.15, 2.0
"""Minimum area of the main object, as a fraction of the image, and relative to the area of any other object."""

MAX_COUNTED = 10
"""Maximum number of objects that a question asks to count."""

MIN_DISTANCE = 0.12
"""Minimum distance between two centres, as a fraction of the image, to ask which is left or above."""

COLUMNS, ROWS = ("left", "middle", "right"), ("top", "middle", "bottom")


def detection(annotation: Annotation, rng: random.Random) -> Iterator[Talk]:
    """All objects, as XML in LAMM's format."""
    yield rng.choice(TASKS["detection"].questions), boxes_xml(annotation.things)


def description(annotation: Annotation, rng: random.Random) -> Iterator[Talk]:
    """One of the captions."""
    if annotation.captions:
        yield rng.choice(TASKS["captioning"].questions), rng.choice(annotation.captions)


def classification(annotation: Annotation, rng: random.Random) -> Iterator[Talk]:
    """The main object of the image, if there is one."""
    sizes = {
        thing: (thing.box[2] - thing.box[0]) * (thing.box[3] - thing.box[1]) for thing in annotation.things
    }
    main = max(annotation.things, key=lambda thing: sizes[thing])
    rest = [size for thing, size in sizes.items() if thing != main]
    if (
        sizes[main] >= MIN_AREA
        and sizes[main] >= MIN_AREA_RATIO * max(rest, default=0.0)
        and not annotation.crowds
    ):
        yield said(rng, CLASSIFICATION, name=main.label, a_name=with_article(main.label))


def vqa(annotation: Annotation, rng: random.Random) -> Iterator[Talk]:
    """Counting, presence, location of a single object, and relative position of two."""
    if countable := {kind: count for kind, count in annotation.counts.items() if count <= MAX_COUNTED}:
        kind = rng.choice(list(countable))
        # The last wording ("There are ...") is only correct for several objects.
        yield said(
            rng, COUNTING if countable[kind] > 1 else COUNTING[:3], names=plural(kind), number=countable[kind]
        )
    yield from presence(annotation, rng)
    # Only objects that are the only ones of their class, so that the class name identifies them.
    single = [thing for thing in annotation.things if annotation.counts.get(thing.kind) == 1]
    if single:
        thing = rng.choice(single)
        yield said(rng, PLACE, name=thing.label, place=place_of(thing))
    pairs = [
        (a, b, axis) for a in single for b in single for axis in (0, 1) if a != b and side_of(a, b, axis)
    ]
    if pairs:
        first, second, axis = rng.choice(pairs)
        side = side_of(first, second, axis)
        yield said(rng, SIDE[axis], first=first.label, second=second.label, side=side)


def presence(annotation: Annotation, rng: random.Random) -> Iterator[Talk]:
    """Whether there is an object of a class; the class is present or absent with equal probability."""
    present = list(annotation.counts)
    wanted = present if rng.random() < 0.5 else annotation.absent
    if wanted:
        there = wanted is present
        yes, some = ("Yes", "some") if there else ("No", "no")
        kind = rng.choice(wanted)
        one = there and annotation.counts[kind] == 1
        # The last wording ("there are some ...") is only correct for several objects.
        yield said(rng, PRESENCE[:-1] if one else PRESENCE, names=plural(kind), yes=yes, some=some)


KINDS: dict[str, Callable[[Annotation, random.Random], Iterator[Talk]]] = {
    "detection": detection,
    "description": description,
    "classification": classification,
    "VQA": vqa,
}
"""Generators of questions about an image, by LAMM's `task_type`."""


def by_template(annotation: Annotation, kinds: Sequence[str], seed: int, image: str) -> Iterator[Item]:
    """The items of one image, the same for the same seed.

    Args:
        annotation: its annotation.
        kinds: keys of `KINDS`.
        seed: seed of the wordings, and of what is asked about.
        image: path of the image relative to the folder of the file.
    """
    for kind in kinds:
        rng = random.Random(f"{seed}/{annotation.name}/{kind}")
        for number, talk in enumerate(KINDS[kind](annotation, rng)):
            yield item(annotation, image, kind, number, talk)


def item(annotation: Annotation, image: str, kind: str, number: int, talk: Talk) -> Item:
    """A question and its answer as an entry of LAMM's JSON."""
    identity = {"id": f"{annotation.name}-{kind}-{number}", "image": image}
    return {**identity, "conversations": conversation(talk), "task_type": kind}


def conversation(talk: Talk) -> list[dict[str, str]]:
    """A question and its answer in LAMM's JSON format."""
    return [{"from": "human", "value": talk[0]}, {"from": "gpt", "value": talk[1]}]


def boxes_xml(things: Sequence[Thing]) -> str:
    """The XML of a detection answer; edges have six decimals, so that no box becomes empty."""
    rows = [
        "".join(f"<{edge}>{value:.6f}</{edge}>" for edge, value in zip(EDGES, thing.box, strict=True))
        + f"<cls>{escape(thing.label)}</cls>"
        for thing in things
    ]
    return f"<Objects>{''.join(f'<Item>{row}</Item>' for row in rows)}</Objects>"


def said(rng: random.Random, forms: Sequence[QuestionAnswer], **words: object) -> Talk:
    """Fills in one of the wordings; the answer is capitalized."""
    question, answer = (text.format(**words) for text in rng.choice(forms))
    return question, answer[0].upper() + answer[1:]


def place_of(thing: Thing) -> str:
    """Cell of a 3 x 3 grid over the image that contains the centre of an object.

    >>> place_of(Thing("0", "dog", "dog", (0.0, 0.0, 0.2, 0.2)))
    'top left'
    """
    x, y = (thing.box[0] + thing.box[2]) / 2, (thing.box[1] + thing.box[3]) / 2
    column, row = COLUMNS[min(2, int(x * 3))], ROWS[min(2, int(y * 3))]
    return column if row == "middle" else row if column == "middle" else f"{row} {column}"


def side_of(first: Thing, second: Thing, axis: int) -> str:
    """Relative position of the first to the second object along an axis; empty if not clear."""
    gap = (first.box[axis] + first.box[axis + 2] - second.box[axis] - second.box[axis + 2]) / 2
    if abs(gap) < MIN_DISTANCE:
        return ""
    return (("left", "right"), ("above", "below"))[axis][int(gap > 0)]
