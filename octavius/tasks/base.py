"""What every task does: a sample in, question and answer out; a model's text in, a parsed value out."""

import random
import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, TypeVar

from torchmetrics import Metric, MetricCollection

from octavius.instruction.sample import (
    Boxes,
    Choice,
    ClassName,
    DescribedObjects,
    FoundObject,
    References,
    Sample,
)

G = TypeVar("G", Boxes, References, Choice, ClassName, DescribedObjects, FoundObject)


class Task(ABC):
    """A pair of inverse functions and a metric; it imports no model and reads no file.

    `parse(answer(sample, rng), sample)` is the right value for every sample that `value` does not refuse. Any
    other text parses to a value or to None, which scores zero; `parse` never raises.

    Attributes:
        name: the task's one name, in files, configs, logs and tables.
        questions: forms to draw a question from when the data set has none of its own.
        unseen_questions: forms that training never draws, for zero-shot sets.
        max_answer_tokens: how far generation goes at most.
        protocols: the ways of scoring that it knows, keys of `octavius.metrics.PROTOCOLS`.
        scored_by_scene: whether the published protocol scores one answer a scene.
        limited: metrics that the right answers themselves do not reach in full, as they say numbers rounded; what
            they reach is given beside each as `<metric>_limit`.
    """

    name: ClassVar[str]
    questions: ClassVar[tuple[str, ...]]
    unseen_questions: ClassVar[tuple[str, ...]]
    max_answer_tokens: ClassVar[int]
    protocols: ClassVar[tuple[str, ...]] = ("standard",)
    scored_by_scene: ClassVar[bool] = False
    limited: ClassVar[tuple[str, ...]] = ()

    def question(self, sample: Sample, rng: random.Random, unseen: bool = False) -> str:
        """The sample's own question, or one drawn from the task's forms (the unseen ones when asked).

        Raises:
            ValueError: the sample's gold is one that `value` refuses, or one that its protocol cannot score, said
                before any model has worked on it.
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
        """The right answer as the model should say it; randomness comes from `rng` alone."""

    @abstractmethod
    def parse(self, text: str, sample: Sample) -> Any:
        """What a model's text says to the sample's protocol, or None when it says nothing that can be scored."""

    def scored(self, text: str, sample: Sample, scores: Sequence[float]) -> Any:  # noqa: ARG002
        """As `parse`, with the scores of what the text says, where the task has a use for them."""
        return self.parse(text, sample)

    def candidates(self, sample: Sample) -> tuple[str, ...]:  # noqa: ARG002
        """All answers that are possible, as the model would say them; none where any text may be right."""
        return ()

    def chosen(self, place: int, sample: Sample) -> Any:  # noqa: ARG002
        """The value of the candidate at that place, as `parse` would read it."""
        raise ValueError(f"the task {self.name} has no candidates to choose from")

    @abstractmethod
    def value(self, sample: Sample) -> Any:
        """The gold in the form that the metrics take.

        Raises:
            ValueError: it is of another kind, or no answer could say it so that `parse` reads the same.
        """

    def one_value(self, sample: Sample) -> Any:
        """The gold as one answer says it, in the form that `parse` gives: what a lucky guess would be."""
        return self.value(sample)

    def right_answers(self, sample: Sample) -> set[str]:
        """All texts that are right, for the most frequent answer; of many orders or wordings one."""
        return {self.answer(sample, random.Random(0))}

    def metrics(self, protocol: str = "standard") -> MetricCollection:
        """Fresh metrics of a protocol, with `update(predictions, golds)` over lists.

        Raises:
            ValueError: the task is not scored by that protocol.
        """
        self.check_protocol(protocol)
        return MetricCollection(self._metrics(protocol))

    @abstractmethod
    def _metrics(self, protocol: str) -> list[Metric]:
        """The metrics of one of the task's protocols."""

    def check_protocol(self, protocol: str) -> None:
        """Refuses a protocol by which the task is not scored."""
        if protocol not in self.protocols:
            raise ValueError(
                f"the task {self.name} is scored by the protocol {' or '.join(self.protocols)}, found {protocol!r}; "
                "correct the `protocol` of its evaluation source"
            )


def whose(sample: Sample) -> str:
    """The beginning of a message about a sample."""
    return f"sample {sample.id} of {sample.benchmark}"


def gold_of(sample: Sample, kind: type[G]) -> G:
    """The gold of a sample, of the kind that its task takes.

    Raises:
        ValueError: it is of another kind.
    """
    if not isinstance(sample.gold, kind):
        raise ValueError(
            f"{whose(sample)}: the task {sample.task} takes a gold of type {kind.__name__}, "
            f"found a {type(sample.gold).__name__}; check the reader or the sample's task"
        )
    return sample.gold


def named(text: str, names: Sequence[str]) -> list[int]:
    """Places of the names that a text holds as whole words, case aside, and not inside a longer name.

    >>> named("It is dark grey.", ["grey", "Dark grey", "red"])
    [1]
    """
    words = text.casefold()
    found = []
    for place in sorted(range(len(names)), key=lambda place: -len(names[place].casefold())):
        whole_word = re.compile(rf"(?<!\w){re.escape(names[place].casefold())}(?!\w)")
        if names[place].strip() and whole_word.search(words):
            found.append(place)
            words = whole_word.sub("\0", words)
    return sorted(found)
