"""Object detection in images as text that can be parsed back to the same boxes."""

import random
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar

from octavius.boxes import Box, box_error
from octavius.instruction.sample import Boxes, LabelledBox, Sample
from octavius.metrics import PROTOCOLS, BoxRecallPrecision, CocoAP, Metric, VocAP, same_thing
from octavius.tasks import published
from octavius.tasks.base import Task, gold_of, whose

# Linear time on any text: a number matches in one way only, and labels are found by splitting, not by a regex.
_NUMBER = r"\s*(-?(?:\d+(?:\.\d*)?|\.\d+))\s*"
_BOX = re.compile(rf"\[{_NUMBER},{_NUMBER},{_NUMBER},{_NUMBER}\]")
MOST_BOXES = 1000
"""Maximum number of boxes per answer, which bounds the time of matching; no image has as many objects."""
_SEPARATORS = re.compile(r"[\[\],;]")
"""Characters that end a label when an answer is parsed."""


class Detection(Task):
    """Answers `ball [0.06, 0.10, 0.41, 0.40], box [..]`: x1, y1, x2, y2 relative to the image, left to right.

    Rounding to the sample's number of decimals lowers IoU: on COCO the true answers reach an AP of .77 with
    two decimals, .99 with three. `map_coco_limit` is this upper bound on a given set.
    """

    name = "detection"
    questions: ClassVar[tuple[str, ...]] = (
        "Find all objects and give their boxes.",
        "Which objects are in the picture, and where?",
        "Name every object in the picture with its box.",
        "Detect all objects in the picture.",
        "List the objects in this picture with their boxes.",
        "Give the class and the box of every object.",
        "What can you see here, and where is it?",
        "Show where each thing is.",
        "What objects do you see in this image? Add their boxes.",
        "Tell me the place of each object in the picture.",
        "Box every object in this picture.",
        "Which things are here? Write a box for each.",
    )
    unseen_questions: ClassVar[tuple[str, ...]] = (
        "Where are all the objects? Give every box.",
        "Find every object in the picture with its box.",
    )
    max_answer_tokens = 512
    protocols = tuple(PROTOCOLS)
    limited = ("map_coco",)

    def answer(self, sample: Sample, rng: random.Random) -> str:  # noqa: ARG002 - the order is fixed
        """All objects from left to right; `no objects` if there are none."""
        ordered = sorted(self.value(sample), key=lambda item: (item.box[0], item.box[1]))
        said = [f"{item.label.strip()} [{_written(item.box, sample.decimals)}]" for item in ordered]
        return ", ".join(said) or "no objects"

    def parse(self, text: str, sample: Sample) -> tuple[LabelledBox, ...]:
        """Every `name [x1, y1, x2, y2]` in the text whose box is valid and inside the image; the first 1,000.

        The published protocol parses LAMM's sentences, see `octavius.tasks.published.sentence_boxes`.
        """
        return self.scored(text, sample, ())

    def scored(self, text: str, sample: Sample, scores: Sequence[float]) -> tuple[LabelledBox, ...]:
        """The boxes of the text with their scores, for average precision.

        Args:
            text: the model's answer.
            sample: the sample.
            scores: one for each `]` in the text, such as the mean log-probability of the tokens since the
                previous one; without them boxes are ranked by their order: 1, 1/2, 1/3 ... A box beyond the
                last score, as of an answer that was cut off, gets the lowest.
        """
        found = published.sentence_boxes(text) if sample.protocol == "published" else _boxes(text)
        return tuple(
            replace(
                box, score=scores[closed - 1] if closed <= len(scores) else min(scores, default=1 / index)
            )
            for index, (box, closed) in enumerate(found[:MOST_BOXES], start=1)
        )

    def value(self, sample: Sample) -> tuple[LabelledBox, ...]:
        """The gold boxes to find.

        Raises:
            ValueError: no answer could express a label or a box.
        """
        objects = tuple(item for item in gold_of(sample, Boxes).objects if not item.ignored)
        for item in objects:
            label = item.label.strip()
            if not label or _SEPARATORS.search(label) or _label(label) != label:
                raise ValueError(
                    f"{whose(sample)}: the label {item.label!r} could not be read back from an answer; "
                    "rename it: a label is not empty, has no comma, semicolon or square bracket, no dot or "
                    "colon at its ends, and does not begin with 'and'"
                )
            if said := box_error(item.box):
                raise ValueError(f"{whose(sample)}: a box of {item.label!r} is wrong: {said}")
        return objects

    def _metrics(self, protocol: str) -> list[Metric]:
        """Recall and precision at IoU 0.5 with class labels; under the standard protocol also VOC and COCO AP."""
        if protocol == "published":
            return [BoxRecallPrecision(same_thing)]
        return [BoxRecallPrecision(), VocAP(), CocoAP()]


def _boxes(text: str) -> list[tuple[LabelledBox, int]]:
    """Each box in a text, and the number of `]` up to its end."""
    found, end, closed = [], 0, 0
    for match in _BOX.finditer(text):
        label = _label(_SEPARATORS.split(text[end : match.start()])[-1])
        closed += text.count("]", end, match.end())
        end = match.end()
        x1, y1, x2, y2 = (float(number) for number in match.groups())
        if label and box_error((x1, y1, x2, y2)) is None:
            found.append((LabelledBox(label, (x1, y1, x2, y2)), closed))
    return found


def _label(words: str) -> str:
    """The class name in the words before a box."""
    return words.strip().removeprefix("and ").strip(" .:\n\t\r")


def _written(box: Box, decimals: int) -> str:
    """The coordinates of a box, rounded, with edges at least one step apart so that no box is empty."""
    (x1, x2), (y1, y2) = _apart(box[0], box[2], decimals), _apart(box[1], box[3], decimals)
    return ", ".join(f"{edge:.{decimals}f}" for edge in (x1, y1, x2, y2))


def _apart(low: float, high: float, decimals: int) -> tuple[float, float]:
    first, last = (round(min(1.0, max(0.0, edge)), decimals) for edge in (low, high))
    if first < last:
        return first, last
    step = 10.0**-decimals
    first = min(first, 1.0 - step)
    return first, first + step
