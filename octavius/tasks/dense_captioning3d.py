"""Dense captioning: every described object of a scene with its box, as text that can be parsed back."""

import random
import re
from dataclasses import replace
from typing import ClassVar

from octavius.boxes import Box3D
from octavius.boxes3d import box_error
from octavius.instruction.sample import DescribedObject, DescribedObjects, Sample
from octavius.metrics import DenseCaptions, Metric
from octavius.tasks.base import Task, gold_of, whose

# Linear time on any text, because a number matches in one way only.
_NUMBER = r"\s*(-?(?:\d+(?:\.\d*)?|\.\d+))\s*"
_BOX = re.compile(rf"\[{','.join([_NUMBER] * 6)}\]")
MOST_OBJECTS = 300
"""Maximum number of objects per answer, which bounds the time of matching; no scene of ScanNet has as many."""
_FARTHEST = 10_000.0
"""Maximum absolute value of a number in metres; far above any scene, and volumes cannot overflow."""


class DenseCaptioning3D(Task):
    """Answers `A red chair. [1.20, 0.45, 0.41, 0.50, 0.52, 0.82]; A box. [..]`: centre and size in metres.

    Objects are sorted by their centres, along x, then y, then z.
    """

    name = "dense_captioning3d"
    questions: ClassVar[tuple[str, ...]] = (
        "Describe all objects in the room and give their boxes.",
        "What is in the room, and where?",
        "Describe every object with its box.",
        "Write a sentence about each object and say where it is.",
        "Caption all objects of this room with their boxes.",
        "Give a description and a box for every object.",
        "Which things stand in this room? Describe each and give its box.",
        "List the objects of the room, each with a sentence and its box.",
    )
    unseen_questions: ClassVar[tuple[str, ...]] = (
        "Where are the objects of this room, and what are they like?",
        "Describe everything in the room, with boxes.",
    )
    max_answer_tokens = 1024

    def answer(self, sample: Sample, rng: random.Random) -> str:
        """All objects, each with one of its texts; `no objects` if there are none."""
        ordered = sorted(self.value(sample), key=lambda item: item.box[:3])
        said = [f"{rng.choice(item.texts)} [{_written(item.box, sample.decimals)}]" for item in ordered]
        return "; ".join(said) or "no objects"

    def parse(self, text: str, sample: Sample) -> tuple[DescribedObject, ...]:  # noqa: ARG002
        """Every `text [x, y, z, dx, dy, dz]` with a text and a box of positive size; the first 300."""
        found, end = [], 0
        for match in _BOX.finditer(text):
            said, end = _plain(text[end : match.start()]), match.end()
            x, y, z, dx, dy, dz = (float(number) for number in match.groups())
            if said and _fault((x, y, z, dx, dy, dz)) is None:
                found.append(DescribedObject((x, y, z, dx, dy, dz), (said,)))
        return tuple(found[:MOST_OBJECTS])

    def value(self, sample: Sample) -> tuple[DescribedObject, ...]:
        """The objects with each text on one line.

        Raises:
            ValueError: no answer could express a text or a box.
        """
        objects = []
        for index, item in enumerate(gold_of(sample, DescribedObjects).objects):
            texts = tuple(said for text in item.texts if (said := _plain(text)))
            if not texts:
                raise ValueError(f"{whose(sample)}: object {index} has no text, it needs at least one")
            if unreadable := [text for text in texts if _BOX.search(text)]:
                raise ValueError(
                    f"{whose(sample)}: the text {unreadable[0]!r:.80} of object {index} could not be read back "
                    "from an answer, because it holds a box; take the box out"
                )
            if fault := _fault(item.box):
                raise ValueError(f"{whose(sample)}: the box of object {index} is wrong: {fault}")
            objects.append(DescribedObject(item.box, texts))
        return tuple(objects)

    def one_value(self, sample: Sample) -> tuple[DescribedObject, ...]:
        """The objects with the first text of each."""
        return tuple(replace(item, texts=item.texts[:1]) for item in self.value(sample))

    def _metrics(self, protocol: str) -> list[Metric]:  # noqa: ARG002 - there is only one
        """m@kIoU and F1 of the captions, recall and precision of the boxes, at IoU 0.25 and 0.5."""
        return [DenseCaptions()]


def _plain(text: str) -> str:
    """A text on one line, without the separators between objects."""
    return " ".join(text.split()).strip(" ;,")


def _fault(box: Box3D) -> str | None:
    if max(map(abs, box)) > _FARTHEST:
        return f"a number is beyond {_FARTHEST:g} metres"
    return box_error(box)


def _written(box: Box3D, decimals: int) -> str:
    """Centre and size of a box, rounded, with sides of at least one step so that no box is empty."""
    sides = [max(side, 10.0**-decimals) for side in box[3:]]
    return ", ".join(f"{number:.{decimals}f}" for number in (*box[:3], *sides))
