"""Closed-vocabulary classification: the class of an image, or an attribute of a face."""

import random
from collections.abc import Sequence
from typing import ClassVar

from octavius.instruction.sample import ClassName, Sample
from octavius.metrics import PROTOCOLS, Accuracy, AnyMention, Metric
from octavius.tasks.base import Task, gold_of, whose
from octavius.tasks.choices import parse_choice


class Classification(Task):
    """Answers with the bare class name."""

    name = "classification"
    questions: ClassVar[tuple[str, ...]] = (
        "What is this?",
        "Which class does the picture show?",
        "Name the object in this picture.",
        "Which object is this?",
        "What is the object in this picture?",
        "Say which class this is.",
        "What kind of object is this?",
        "Give the class of the object in the image.",
        "Which object can you see here?",
        "What thing is in the image?",
        "Tell me what this object is.",
        "Which kind of thing does the image show?",
    )
    unseen_questions: ClassVar[tuple[str, ...]] = (
        "What object does this picture show?",
        "Name the class of the object.",
    )
    max_answer_tokens = 24
    protocols: ClassVar[tuple[str, ...]] = tuple(PROTOCOLS)

    def answer(self, sample: Sample, rng: random.Random) -> str:  # noqa: ARG002
        """The class name."""
        return self.value(sample)

    def parse(self, text: str, sample: Sample) -> str | None:
        """The class name that the text equals, or states in the way of an option (`octavius.tasks.choices`).

        Under the published protocol the text itself on one line, or None if empty.
        """
        if sample.protocol == "published":
            return " ".join(text.split()) or None
        names = gold_of(sample, ClassName).names
        said = " ".join(text.split())
        exact = [name for name in names if " ".join(name.split()) == said]
        if said and exact:
            return exact[0]
        spellings = self._spellings(names)
        choice = parse_choice(
            text, list(spellings), [names.index(name) for name in spellings.values()], lettered=False
        )
        return None if choice is None else names[choice]

    def _spellings(self, names: Sequence[str]) -> dict[str, str]:
        """Maps each case-folded spelling to the class name that it stands for."""
        return {" ".join(name.split()).casefold(): name for name in names}

    def candidates(self, sample: Sample) -> tuple[str, ...]:
        """All class names."""
        return gold_of(sample, ClassName).names

    def chosen(self, index: int, sample: Sample) -> str:
        """The class name at this index."""
        return gold_of(sample, ClassName).names[index]

    def value(self, sample: Sample) -> str:
        """The true class name."""
        gold = gold_of(sample, ClassName)
        if gold.name not in gold.names or not gold.name.strip():
            raise ValueError(
                f"{whose(sample)}: its class name {gold.name!r} should be one of the names "
                f"that are possible, and not empty: {', '.join(gold.names[:20])}"
            )
        return gold.name

    def _metrics(self, protocol: str) -> list[Metric]:
        """Top-1 accuracy of the parsed class; under the published protocol, whether the text mentions the class."""
        return [AnyMention() if protocol == "published" else Accuracy()]


class FacialAttributes(Classification):
    """Hair colour or smile of a face; the dataset's own question says which."""

    name = "facial_attributes"
    questions: ClassVar[tuple[str, ...]] = ("What does this face show?",)
    unseen_questions: ClassVar[tuple[str, ...]] = ("Tell me what this face shows.",)
