"""What every task answers for: a sample in, question and answer out; a model's text in, a parsed value out."""

import random
from abc import ABC, abstractmethod
from typing import Any, ClassVar

from torchmetrics import MetricCollection

from octavius.instruction.sample import Sample


class Task(ABC):
    """A pair of inverse functions and a metric; it imports no model and reads no file.

    `parse(answer(sample, rng), sample) == value(sample)` holds for every sample, and any other text parses to a
    value or to None, which scores zero; it never raises.

    Attributes:
        name: the task's one name, in files, configs, logs and tables.
        questions: forms to draw a question from when the data set has none of its own.
        unseen_questions: forms that training never draws, for zero-shot sets.
        max_answer_tokens: how far generation goes at most.
    """

    name: ClassVar[str]
    questions: ClassVar[tuple[str, ...]]
    unseen_questions: ClassVar[tuple[str, ...]]
    max_answer_tokens: ClassVar[int]

    def question(self, sample: Sample, rng: random.Random, unseen: bool = False) -> str:
        """The sample's own question, or one drawn from the task's forms (the unseen ones when asked)."""
        return sample.question or rng.choice(self.unseen_questions if unseen else self.questions)

    @abstractmethod
    def answer(self, sample: Sample, rng: random.Random) -> str:
        """The right answer as the model should say it; randomness comes from `rng` alone."""

    @abstractmethod
    def parse(self, text: str, sample: Sample) -> Any:  # noqa: ANN401 - each task has its own kind of value
        """What a model's text says, or None when it says nothing that can be scored."""

    @abstractmethod
    def value(self, sample: Sample) -> Any:  # noqa: ANN401
        """The gold in the form that the metrics take."""

    @abstractmethod
    def metrics(self) -> MetricCollection:
        """Fresh metrics with `update(predictions, golds)` over lists."""
