"""Map-style data sets that turn samples into examples, for training and for evaluation.

With `bad: skip` an unreadable sample is replaced by another of its set. In training the replacement is seeded by
(seed, epoch, drawn sample), so it is the same on any number of ranks and in a resumed run; in evaluation it is the
next readable sample.
"""

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from torch.utils.data import Dataset

from datamodules.benchmarks.base import BadPolicy
from datamodules.mixture import Draw
from octavius.instruction.batch import Example, FailedSample, Processor
from octavius.instruction.sample import Sample
from octavius.metrics import Protocol
from octavius.suggestions import nearest
from octavius.tasks import TASKS, Task

T = TypeVar("T")
K = TypeVar("K")

TRIES = 100
"""Number of replacements tried for an unreadable sample before an error ends the run."""

UNREADABLE = (ValueError, OSError)
"""Exceptions of a sample whose media cannot be read or whose prompt cannot be built."""


@dataclass(frozen=True)
class TrainSet:
    """A training set and its weight in the mixture.

    Attributes:
        samples: the samples.
        weight: relative weight in the mixture.
        order: number that seeds the shuffling of this set; None takes the set's index in the mixture.
        bad: `error` ends the run at an unreadable sample, `skip` replaces it by another of the set.
    """

    samples: Sequence[Sample]
    weight: float = 1.0
    order: int | None = None
    bad: BadPolicy = "error"


@dataclass(frozen=True)
class EvalSet:
    """An evaluation set.

    Attributes:
        name: its name in logs and tables.
        samples: the samples in the order of their files, on which some protocols depend.
        unseen_wording: whether questions use wordings that training never draws.
        protocol: how the answers are scored.
        bad: `error` ends the run at an unreadable sample, `skip` leaves it out of the scores.
        blind_ceiling: the highest headline score of a model that ignores the question, if that is known.
    """

    name: str
    samples: Sequence[Sample]
    unseen_wording: bool = False
    protocol: Protocol = "standard"
    bad: BadPolicy = "error"
    blind_ceiling: float | None = None


def find_task(name: str) -> Task:
    """Looks a task up by name.

    Raises:
        ValueError: there is no such task; the message lists the known ones.
    """
    if name not in TASKS:
        raise ValueError(f"unknown task {name!r}{nearest(name, TASKS)}; known: {', '.join(TASKS)}")
    return TASKS[name]


def first_readable(keys: Iterator[K], make: Callable[[K], T]) -> tuple[T, str | None]:
    """Applies `make` to one key after another until it succeeds.

    Returns:
        The result, and the error of the first key (None if the first key succeeded).

    Raises:
        ValueError: `make` failed for every key.
    """
    problems: list[str] = []
    for key in keys:
        try:
            return make(key), problems[0] if problems else None
        except UNREADABLE as error:
            problems.append(str(error))
    raise ValueError(
        f"none of {len(problems)} samples that were tried in turn can be read; the first: {problems[0]}. "
        "`octavius check-data --config` lists what is wrong with a configuration's data"
    )


class TrainingExamples(Dataset[Example]):
    """Training examples, prompts with answers; every random choice is seeded by (seed, epoch, sample id)."""

    def __init__(self, sets: Sequence[TrainSet], processor: Processor, seed: int) -> None:
        """Stores the sets; nothing is read before an item is asked for."""
        self.sets, self.processor, self.seed = list(sets), processor, seed

    def __getitem__(self, draw: Draw) -> Example:
        """The example of a drawn sample, or of its replacement, which names the failed sample in `replaces`."""
        taken = self.sets[draw.source]
        if taken.bad == "error":
            return self.processor.build_example(*self._with_texts(draw))
        example, problem = self._first(draw, lambda one: self.processor.build_example(*self._with_texts(one)))
        if problem is None:
            return example
        return replace(example, replaces=FailedSample(taken.samples[draw.sample_index], problem))

    def length(self, draw: Draw) -> int:
        """Number of tokens of a drawn sample's prompt and answer; its media are not read."""

        def count(one: Draw) -> int:
            return len(self.processor.prompts.build(*self._with_texts(one)).ids)

        return count(draw) if self.sets[draw.source].bad == "error" else self._first(draw, count)[0]

    def _first(self, draw: Draw, make: Callable[[Draw], T]) -> tuple[T, str | None]:
        """Applies `make` to a drawn sample and then to its replacements; returns what `first_readable` does."""

        def candidates() -> Iterator[Draw]:
            yield draw
            size = len(self.sets[draw.source].samples)
            rng = random.Random(f"{self.seed}/{draw.epoch}/{draw.source}/{draw.sample_index}/instead")
            yield from (
                draw._replace(sample_index=index) for index in rng.sample(range(size), min(size, TRIES))
            )

        return first_readable(candidates(), make)

    def _with_texts(self, draw: Draw) -> tuple[Sample, str, str]:
        """A drawn sample with its question and its answer."""
        sample = self.sets[draw.source].samples[draw.sample_index]
        rng = random.Random(f"{self.seed}/{draw.epoch}/{sample.benchmark}/{sample.id}")
        task = find_task(sample.task)
        return sample, task.question(sample, rng), task.answer(sample, rng)


class EvaluationExamples(Dataset[Example]):
    """Evaluation examples, prompts without answers, set after set; a sample's question is the same in every epoch.

    Each example names its evaluation set, and its index in this data set.
    """

    def __init__(self, sets: Sequence[EvalSet], processor: Processor) -> None:
        """Indexes the samples of all sets; each sample's `protocol` becomes that of its set."""
        self.sets, self.processor = list(sets), processor
        self.indices = [
            (which, index) for which, item in enumerate(self.sets) for index in range(len(item.samples))
        ]

    def __len__(self) -> int:
        """Number of samples of all sets."""
        return len(self.indices)

    def __getitem__(self, index: int) -> Example:
        """The example of one sample; if unreadable, of the next readable one of its set, marked as `replaces`."""
        which, number = self.indices[index]
        item = self.sets[which]
        return replace(self._read(item, number), set_name=item.name, index=index)

    def _read(self, item: EvalSet, number: int) -> Example:
        if item.bad == "error":
            return self._example(item, number)
        # A batch needs an example at this index; the evaluation drops the answer of one marked `replaces`.
        count = len(item.samples)
        candidates = ((number + step) % count for step in range(min(count, TRIES + 1)))
        example, problem = first_readable(candidates, lambda one: self._example(item, one))
        if problem is None:
            return example
        sample = replace(item.samples[number], protocol=item.protocol)
        return replace(example, replaces=FailedSample(sample, problem))

    def _example(self, item: EvalSet, number: int) -> Example:
        """The example of one sample; its question is seeded by the names of the set and the sample alone."""
        sample = replace(item.samples[number], protocol=item.protocol)
        rng = random.Random(f"{item.name}/{sample.id}")
        question = find_task(sample.task).question(sample, rng, item.unseen_wording)
        return self.processor.build_example(sample, question, None)
