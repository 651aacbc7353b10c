"""Template-based instruction data about a scan, as items of Scan2Inst's JSON."""

import random
from collections.abc import Callable, Iterator, Sequence
from typing import TypeAlias

from datamodules.instructions.annotation import Annotation, Thing
from datamodules.instructions.images import Item, Talk, conversation, presence, said
from datamodules.instructions.relations import (
    CONTACT_TOLERANCE,
    MAX_NEXT_TO_GAP,
    MIN_MARGIN,
    MIN_SUPPORT_OVERLAP,
    MinMaxBox,
    footprint_overlap,
    gap,
)
from datamodules.instructions.wordings import (
    CLOSEST,
    COUNTING,
    NAMING,
    ON,
    listed,
    plural,
    with_article,
)
from octavius.tasks import TASKS

About: TypeAlias = Iterator[tuple[Thing | None, Talk]]
"""Pairs of the object that a question is about (None for the room) and the question with its answer."""

MAX_COUNTING, MAX_OTHER = 3, 2
"""Maximum number of questions about counts per room, and each about presence, support and proximity."""


def naming(scan: Annotation, rng: random.Random) -> About:
    """For every object, a question for its name."""
    for thing in scan.things:
        yield thing, said(rng, NAMING, name=thing.label, a_name=with_article(thing.label))


def describing(scan: Annotation, rng: random.Random) -> About:
    """For every object, one of its annotated descriptions, or else a sentence on its size and surroundings."""
    anchors = single(scan)
    for thing in scan.things:
        texts = scan.descriptions.get(thing.id) or (measured(thing, anchors),)
        yield thing, (rng.choice(TASKS["captioning3d"].questions), rng.choice(texts))


def vqa(scan: Annotation, rng: random.Random) -> About:
    """Questions about counts, presence, what is on an object, and what is closest to it."""
    counts = scan.counts
    for kind in rng.sample(sorted(counts), min(MAX_COUNTING, len(counts))):
        # The last wording ("There are ...") is only correct for several objects.
        forms = COUNTING if counts[kind] > 1 else COUNTING[:3]
        yield None, said(rng, forms, names=plural(kind), number=counts[kind])
    for _ in range(MAX_OTHER):
        yield from ((None, talk) for talk in presence(scan, rng))
    anchors = single(scan)
    laden = [(anchor, things) for anchor in anchors if (things := carried(scan, anchor))]
    for anchor, things in rng.sample(laden, min(MAX_OTHER, len(laden))):
        names = [with_article(label) for label in dict.fromkeys(thing.label for thing in things)]
        yield None, said(rng, ON, name=anchor.label, things=listed(names))
    near = [(anchor, thing) for anchor in anchors if (thing := closest(scan, anchor)) is not None]
    for anchor, thing in rng.sample(near, min(MAX_OTHER, len(near))):
        yield None, said(rng, CLOSEST, name=anchor.label, thing=thing.label)


KINDS: dict[str, Callable[[Annotation, random.Random], About]] = {
    "classification3d": naming,
    "description3d": describing,
    "VQA3D": vqa,
}
"""Generators of questions about a scan, by Scan2Inst's `task_type`."""


def by_template(scan: Annotation, kinds: Sequence[str], seed: int) -> Iterator[Item]:
    """The items of one scan, the same for the same seed; questions about the room are not repeated.

    Args:
        scan: its annotation.
        kinds: keys of `KINDS`.
        seed: seed of the wordings, and of what is asked about.
    """
    for kind in kinds:
        rng = random.Random(f"{seed}/{scan.name}/{kind}")
        seen = set[Talk]()
        for thing, talk in KINDS[kind](scan, rng):
            if thing is not None or talk not in seen:
                yield item(scan, thing, kind, talk)
            seen.add(talk)


def item(scan: Annotation, thing: Thing | None, kind: str, talk: Talk) -> Item:
    """A question and its answer as an entry of Scan2Inst's JSON, whose names have underscores for spaces."""
    about = {} if thing is None else {"object_id": thing.id, "object_name": thing.label.replace(" ", "_")}
    return {"scene_id": scan.name, **about, "task_type": kind, "conversations": conversation(talk)}


def single(scan: Annotation) -> list[Thing]:
    """The objects whose label is unique in the scan, both as a raw category and as a class."""
    labels = [thing.label for thing in scan.things]
    kinds = [thing.kind for thing in scan.things if thing.kind]
    return [
        thing
        for thing in scan.things
        if labels.count(thing.label) == 1 and kinds.count(thing.kind) <= 1 and kinds.count(thing.label) <= 1
    ]


def carried(scan: Annotation, anchor: Thing) -> list[Thing]:
    """The objects that rest on another."""
    return [thing for thing in scan.things if rests_on(thing, anchor)]


def rests_on(thing: Thing, anchor: Thing) -> bool:
    """Whether an object rests on the anchor: it is smaller, touches its top, and is over it with enough footprint."""
    upper, lower = edges(thing), edges(anchor)
    return (
        thing != anchor
        and abs(upper[2] - lower[5]) <= CONTACT_TOLERANCE
        and thing.box[3] * thing.box[4] < anchor.box[3] * anchor.box[4]
        and footprint_overlap(upper, lower) >= MIN_SUPPORT_OVERLAP
    )


def closest(scan: Annotation, anchor: Thing) -> Thing | None:
    """The object nearest to another; None if the runner-up is about as near."""
    others = [thing for thing in scan.things if thing != anchor]
    ranked = sorted((gap(edges(thing), edges(anchor)), thing.id, thing) for thing in others)
    if not ranked or (len(ranked) > 1 and ranked[1][0] - ranked[0][0] < MIN_MARGIN):
        return None
    return ranked[0][2]


def measured(thing: Thing, anchors: Sequence[Thing]) -> str:
    """A sentence about an object from its box and from uniquely named objects around it."""
    _, _, _, x, y, height = thing.box
    text = f"{with_article(thing.label)}, about {max(x, y):.1f} m wide and {height:.1f} m high"
    below = [anchor for anchor in anchors if rests_on(thing, anchor)]
    gaps = {anchor: gap(edges(anchor), edges(thing)) for anchor in anchors if anchor != thing}
    near = [anchor for anchor in gaps if gaps[anchor] < MAX_NEXT_TO_GAP]
    if below:
        text += f", on the {below[0].label}"
    elif near:
        text += f", next to the {min(near, key=lambda anchor: (gaps[anchor], anchor.id)).label}"
    return f"{text[0].upper()}{text[1:]}."


def edges(thing: Thing) -> MinMaxBox:
    """The box of an object as its lowest and highest corner."""
    x, y, z, dx, dy, dz = thing.box
    return x - dx / 2, y - dy / 2, z - dz / 2, x + dx / 2, y + dy / 2, z + dz / 2
