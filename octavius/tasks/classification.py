"""Naming one thing from a closed list: the class of an image, or an attribute of a face."""

import random
import re

from torchmetrics import MetricCollection

from octavius.instruction.sample import ClassName, Sample
from octavius.metrics import Accuracy
from octavius.tasks.base import Task


class Classification(Task):
    """Answers with the bare class name."""

    name = "classification"
    questions = (
        "What is this?",
        "Which class does the picture show?",
        "Name the object in this picture.",
        "Which object is this?",
    )
    unseen_questions = ("What object does this picture show?", "Name the class of the object.")
    max_answer_tokens = 24

    def answer(self, sample: Sample, rng: random.Random) -> str:  # noqa: ARG002
        """The class name."""
        return self.value(sample)

    def parse(self, text: str, sample: Sample) -> str | None:
        """The one class name that the text holds as a whole word; None for none or several."""
        assert isinstance(sample.gold, ClassName), sample.gold
        words = text.casefold()
        named = [
            name
            for name in sample.gold.names
            if re.search(rf"(?<!\w){re.escape(name.casefold())}(?!\w)", words)
        ]
        longest = [name for name in named if not any(name != other and name in other for other in named)]
        return longest[0] if len(longest) == 1 else None

    def value(self, sample: Sample) -> str:
        """The right name."""
        assert isinstance(sample.gold, ClassName), sample.gold
        return sample.gold.name

    def metrics(self) -> MetricCollection:
        """Acc@1."""
        return MetricCollection([Accuracy()])


class FacialAttributes(Classification):
    """Hair colour or smile: the question is the data's own and says which."""

    name = "facial_attributes"
    questions = ("What does this face show?",)
    unseen_questions = ("Tell me what this face shows.",)
