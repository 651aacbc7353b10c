"""Detection: all objects of an image and their boxes, as text that reads back to the same boxes."""

import random
import re

from torchmetrics import MetricCollection

from octavius.boxes import problem
from octavius.instruction.sample import Boxes, LabelledBox, Sample
from octavius.metrics import BoxRecallPrecision
from octavius.tasks.base import Task

_NUMBER = r"\s*(-?\d*\.?\d+)\s*"
_OBJECT = re.compile(rf"([^\[\],;]+?)\s*\[{_NUMBER},{_NUMBER},{_NUMBER},{_NUMBER}\]")


class Detection(Task):
    """Answers `ball [0.06, 0.10, 0.41, 0.40], box [..]`: left to right, two decimals."""

    name = "detection"
    questions = (
        "Find all objects and give their boxes.",
        "Which objects are in the picture, and where?",
        "Name every object in the picture with its box.",
        "Detect all objects in the picture.",
    )
    unseen_questions = ("Where are all the objects? Give every box.", "Find every object in the picture with its box.")
    max_answer_tokens = 512

    def answer(self, sample: Sample, rng: random.Random) -> str:  # noqa: ARG002 - the order is fixed
        """All objects from left to right; `no objects` for none."""
        ordered = sorted(self.value(sample), key=lambda item: (item.box[0], item.box[1]))
        rows = (f"{item.label} [{', '.join(f'{edge:.2f}' for edge in item.box)}]" for item in ordered)
        return ", ".join(rows) or "no objects"

    def parse(self, text: str, sample: Sample) -> tuple[LabelledBox, ...]:  # noqa: ARG002
        """Every `name [x1, y1, x2, y2]` in the text; boxes that are reversed or outside the image are dropped."""
        found = []
        for match in _OBJECT.finditer(text):
            label = match[1].strip().removeprefix("and ").strip(" .:\n")
            x1, y1, x2, y2 = (float(number) for number in match.groups()[1:])
            if label and problem((x1, y1, x2, y2)) is None:
                found.append(LabelledBox(label, (x1, y1, x2, y2)))
        return tuple(found)

    def value(self, sample: Sample) -> tuple[LabelledBox, ...]:
        """The gold boxes."""
        assert isinstance(sample.gold, Boxes), sample.gold
        return sample.gold.objects

    def metrics(self) -> MetricCollection:
        """Recall and precision at IoU 0.5, class-aware, one to one."""
        return MetricCollection([BoxRecallPrecision()])
