"""The data sets behind every loader: samples become examples that are ready for a batch.

Where a set says `bad: skip`, another sample stands in for one that cannot be read. Which one is a function of the
draw alone: it is the same on any number of processes, and in a run that was resumed.
"""

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from torch.utils.data import Dataset

from datamodules.benchmarks.base import BadPolicy
from datamodules.mixture import Draw
from octavius.instruction.batch import Example, LeftOut, Processor
from octavius.instruction.sample import Sample
from octavius.metrics import Protocol
from octavius.tasks import TASKS, Task

T = TypeVar("T")
K = TypeVar("K")

TRIES = 100
"""Samples of a set that are tried in the place of one that cannot be read, before the run is ended."""

UNREADABLE = (ValueError, OSError)
"""What a sample raises that cannot be read, or of which no prompt can be made."""


@dataclass(frozen=True)
class TrainSet:
    """A training set and its share of the mixture.

    Attributes:
        samples: of the set.
        weight: its share, in any scale.
        order: which shuffled order it is gone through in; null is its place in the mixture.
        bad: whether a sample that cannot be read ends the run (`error`), or another stands in for it (`skip`).
    """

    samples: Sequence[Sample]
    weight: float = 1.0
    order: int | None = None
    bad: BadPolicy = "error"


@dataclass(frozen=True)
class EvalSet:
    """An evaluation set.

    Attributes:
        name: in logs and tables.
        samples: in the order of their files, which some protocols depend on.
        unseen_wording: whether questions take forms that training never draws.
        protocol: how its answers are scored.
        bad: whether a sample that cannot be read ends the run (`error`), or is left out of the scores (`skip`).
    """

    name: str
    samples: Sequence[Sample]
    unseen_wording: bool = False
    protocol: Protocol = "standard"
    bad: BadPolicy = "error"


def find_task(name: str) -> Task:
    """The task of that name.

    Raises:
        ValueError: there is none; the message lists those there are.
    """
    if name not in TASKS:
        raise ValueError(f"unknown task {name!r}; known: {', '.join(TASKS)}")
    return TASKS[name]


def first_readable(keys: Iterator[K], make: Callable[[K], T]) -> tuple[T, str | None]:
    """What is made of the first key of which it can be; and what was wrong with the very first, None for nothing.

    Raises:
        ValueError: it can be made of none of them.
    """
    problems: list[str] = []
    for key in keys:
        try:
            return make(key), problems[0] if problems else None
        except UNREADABLE as error:
            problems.append(str(error))
    raise ValueError(
        f"none of {len(problems)} samples that were tried one after another can be read; the first: {problems[0]}. "
        "`octavius check-data --config` lists what is wrong with a configuration's data"
    )


class TrainingInstances(Dataset[Example]):
    """Instances with answers; every random choice comes from (seed, epoch, sample id)."""

    def __init__(self, sets: Sequence[TrainSet], processor: Processor, seed: int) -> None:
        """Keeps the sets; nothing is read before an instance is asked for."""
        self.sets, self.processor, self.seed = list(sets), processor, seed

    def __getitem__(self, draw: Draw) -> Example:
        """The instance of one draw, or of another of its set that stands in for it."""
        taken = self.sets[draw.source]
        if taken.bad == "error":
            return self.processor.example(*self._said(draw))
        example, problem = self._first(draw, lambda one: self.processor.example(*self._said(one)))
        if problem is None:
            return example
        return replace(example, instead_of=LeftOut(taken.samples[draw.place], problem))

    def length(self, draw: Draw) -> int:
        """Tokens of the instance of one draw; its media are not read."""

        def count(one: Draw) -> int:
            return len(self.processor.prompts.build(*self._said(one)).ids)

        return count(draw) if self.sets[draw.source].bad == "error" else self._first(draw, count)[0]

    def _first(self, draw: Draw, make: Callable[[Draw], T]) -> tuple[T, str | None]:
        """What is made of a draw, or of the first in its place of which it can be; and what is wrong with it."""

        def tried() -> Iterator[Draw]:
            yield draw
            size = len(self.sets[draw.source].samples)
            rng = random.Random(f"{self.seed}/{draw.epoch}/{draw.source}/{draw.place}/instead")
            yield from (draw._replace(place=place) for place in rng.sample(range(size), min(size, TRIES)))

        return first_readable(tried(), make)

    def _said(self, draw: Draw) -> tuple[Sample, str, str]:
        """A sample, with the question and the answer of one draw."""
        sample = self.sets[draw.source].samples[draw.place]
        rng = random.Random(f"{self.seed}/{draw.epoch}/{sample.benchmark}/{sample.id}")
        task = find_task(sample.task)
        return sample, task.question(sample, rng), task.answer(sample, rng)


class EvaluationInstances(Dataset[Example]):
    """Instances without answers, set after set; the same question for a sample in every epoch."""

    def __init__(self, sets: Sequence[EvalSet], processor: Processor) -> None:
        """Numbers the samples of all sets; a sample takes the name of its set for its benchmark, and its protocol."""
        self.sets, self.processor = list(sets), processor
        self.places = [
            (which, index) for which, item in enumerate(self.sets) for index in range(len(item.samples))
        ]

    def __len__(self) -> int:
        """Samples of all sets."""
        return len(self.places)

    def __getitem__(self, place: int) -> Example:
        """One sample, or another of its set in the place of one that cannot be read."""
        which, index = self.places[place]
        item = self.sets[which]
        if item.bad == "error":
            return self._example(item, index)
        turns = range(min(len(item.samples), TRIES + 1))
        others = ((index + turn) % len(item.samples) for turn in turns)
        example, problem = first_readable(others, lambda one: self._example(item, one))
        if problem is None:
            return example
        sample = replace(item.samples[index], benchmark=item.name, protocol=item.protocol)
        return replace(example, instead_of=LeftOut(sample, problem))

    def _example(self, item: EvalSet, index: int) -> Example:
        """One sample of a set, its question drawn by its id alone."""
        sample = replace(item.samples[index], benchmark=item.name, protocol=item.protocol)
        rng = random.Random(f"{item.name}/{sample.id}")
        question = find_task(sample.task).question(sample, rng, item.unseen_wording)
        return self.processor.example(sample, question, None)
