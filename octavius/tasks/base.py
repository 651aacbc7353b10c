"""Base class of tasks: the question and the answer of a sample, the parsing of generated text, and the metrics."""

import random
import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, TypeVar

from octavius.instruction.sample import (
    Boxes,
    Choice,
    ClassName,
    DescribedObjects,
    FoundObject,
    References,
    Sample,
)
from octavius.metrics import Metric

G = TypeVar("G", Boxes, References, Choice, ClassName, DescribedObjects, FoundObject)


class Task(ABC):
    """A pair of inverse functions, `answer` and `parse`, with metrics; independent of any model and data set.

    `parse(answer(sample, rng), sample)` equals the gold value for every sample that `value` accepts. Any
    other text parses to some value or to None, which scores zero; `parse` never raises.

    Attributes:
        name: name of the task in files, configurations, logs and tables.
        questions: question forms to draw from if the dataset has no questions of its own.
        unseen_questions: question forms that training never uses, for zero-shot sets.
        max_answer_tokens: maximum length of an answer in tokens.
        protocols: supported ways of scoring, keys of `octavius.metrics.PROTOCOLS`.
        scored_by_scene: whether the published protocol scores one answer per scene.
        limited: metrics whose best possible score is below 1, because numbers in answers are rounded; that
            score is reported next to each as `<metric>_limit`.
    """

    name: ClassVar[str]
    questions: ClassVar[tuple[str, ...]]
    unseen_questions: ClassVar[tuple[str, ...]]
    max_answer_tokens: ClassVar[int]
    protocols: ClassVar[tuple[str, ...]] = ("standard",)
    scored_by_scene: ClassVar[bool] = False
    limited: ClassVar[tuple[str, ...]] = ()

    def question(self, sample: Sample, rng: random.Random, unseen: bool = False) -> str:
        """The sample's own question, or one drawn from the task's question forms.

        Args:
            sample: the sample.
            rng: draws the form.
            unseen: draw from `unseen_questions`.

        Raises:
            ValueError: `value` refuses the gold, or its protocol cannot score it. Raised here, before any
                model has run on the sample.
        """
        self.value(sample)
        self.check_protocol(sample.protocol)
        by_scene = self.scored_by_scene and sample.protocol == "published"
        if by_scene and isinstance(sample.gold, References) and not sample.gold.scene:
            raise ValueError(
                f"{whose(sample)}: the protocol published scores one answer a scene, but the gold names no scene; "
                "its reader sets References.scene, or take the protocol standard"
            )
        return sample.question or rng.choice(self.unseen_questions if unseen else self.questions)

    @abstractmethod
    def answer(self, sample: Sample, rng: random.Random) -> str:
        """The true answer in the form that the model is trained to give; all randomness comes from `rng`."""

    @abstractmethod
    def parse(self, text: str, sample: Sample) -> Any:
        """The value of a model's text under the sample's protocol, or None if it cannot be scored."""

    def scored(self, text: str, sample: Sample, scores: Sequence[float]) -> Any:  # noqa: ARG002
        """Like `parse`, for tasks that also use the confidence of parts of the answer.

        Args:
            text: the model's answer.
            sample: the sample.
            scores: one for each `]` in the text; see `BoxScores`.
        """
        return self.parse(text, sample)

    def candidates(self, sample: Sample) -> tuple[str, ...]:  # noqa: ARG002
        """All possible answers in the form that the model gives; empty for tasks with open answers."""
        return ()

    def chosen(self, index: int, sample: Sample) -> Any:  # noqa: ARG002
        """The value of the candidate at index `index`, as `parse` would give it."""
        raise ValueError(f"the task {self.name} has no candidates to choose from")

    @abstractmethod
    def value(self, sample: Sample) -> Any:
        """The gold value in the form that the metrics take.

        Raises:
            ValueError: the gold has the wrong type, or no answer could express it so that `parse` recovers
                it.
        """

    def one_value(self, sample: Sample) -> Any:
        """The gold as a single answer expresses it, in the form that `parse` gives; used for the chance level."""
        return self.value(sample)

    def right_answers(self, sample: Sample) -> set[str]:
        """Correct texts, which the blind control `majority` counts to find the most frequent answer.

        Tasks in which many orders or wordings are correct give one of them only.
        """
        return {self.answer(sample, random.Random(0))}

    def metrics(self, protocol: str = "standard") -> list[Metric]:
        """Fresh metrics of a protocol, with `update(predictions, golds)` over lists.

        Raises:
            ValueError: the task does not support the protocol.
        """
        self.check_protocol(protocol)
        return self._metrics(protocol)

    @abstractmethod
    def _metrics(self, protocol: str) -> list[Metric]:
        """The metrics of one of the task's protocols."""

    def check_protocol(self, protocol: str) -> None:
        """Raises ValueError if the task does not support the protocol."""
        if protocol not in self.protocols:
            raise ValueError(
                f"the task {self.name} is scored by the protocol {' or '.join(self.protocols)}, found {protocol!r}; "
                "correct the `protocol` of its evaluation source"
            )


def whose(sample: Sample) -> str:
    """Names a sample, as the beginning of an error message."""
    return f"sample {sample.id} of {sample.benchmark}"


def gold_of(sample: Sample, kind: type[G]) -> G:
    """The gold of a sample, checked to have the type that its task takes.

    Raises:
        ValueError: it has another type.
    """
    if not isinstance(sample.gold, kind):
        raise ValueError(
            f"{whose(sample)}: the task {sample.task} takes a gold of type {kind.__name__}, "
            f"found a {type(sample.gold).__name__}; check the reader or the sample's task"
        )
    return sample.gold


def named(text: str, names: Sequence[str]) -> list[int]:
    """Indices of the names that occur in a text as whole words, ignoring case, and not inside a longer name.

    >>> named("It is dark grey.", ["grey", "Dark grey", "red"])
    [1]
    """
    words = text.casefold()
    found = []
    for index in sorted(range(len(names)), key=lambda index: -len(names[index].casefold())):
        whole_word = re.compile(rf"(?<!\w){re.escape(names[index].casefold())}(?!\w)")
        if names[index].strip() and whole_word.search(words):
            found.append(index)
            words = whole_word.sub("\0", words)
    return sorted(found)
