"""Samples come in, examples ready for a batch go out: the data sets behind every loader."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

from torch.utils.data import Dataset

from datamodules.mixture import Draw
from octavius.instruction.batch import Example, Processor
from octavius.instruction.sample import Sample
from octavius.metrics import Protocol
from octavius.tasks import TASKS, Task


@dataclass(frozen=True)
class TrainSet:
    """A training set and its share of the mixture.

    Attributes:
        samples: of the set.
        weight: its share, in any scale.
        order: which shuffled order it is gone through in; null is its place in the mixture.
    """

    samples: Sequence[Sample]
    weight: float = 1.0
    order: int | None = None


@dataclass(frozen=True)
class EvalSet:
    """An evaluation set.

    Attributes:
        name: in logs and tables.
        samples: in the order of their files, which some protocols depend on.
        unseen_wording: whether questions take forms that training never draws.
        protocol: how its answers are scored.
    """

    name: str
    samples: Sequence[Sample]
    unseen_wording: bool = False
    protocol: Protocol = "standard"


def find_task(name: str) -> Task:
    """The task of that name.

    Raises:
        ValueError: there is none; the message lists those there are.
    """
    if name not in TASKS:
        raise ValueError(f"unknown task {name!r}; known: {', '.join(TASKS)}")
    return TASKS[name]


class TrainingInstances(Dataset[Example]):
    """Instances with answers; every random choice comes from (seed, epoch, sample id)."""

    def __init__(self, sets: Sequence[TrainSet], processor: Processor, seed: int) -> None:
        """Keeps the sets; nothing is read before an instance is asked for."""
        self.sets, self.processor, self.seed = list(sets), processor, seed

    def __getitem__(self, draw: Draw) -> Example:
        """The instance of one draw."""
        return self.processor.example(*self._said(draw))

    def length(self, draw: Draw) -> int:
        """Tokens of the instance of one draw; its media are not read."""
        return len(self.processor.prompts.build(*self._said(draw)).ids)

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
        """One sample, its question drawn by its id alone."""
        which, index = self.places[place]
        item = self.sets[which]
        sample = replace(item.samples[index], benchmark=item.name, protocol=item.protocol)
        rng = random.Random(f"{item.name}/{sample.id}")
        question = find_task(sample.task).question(sample, rng, item.unseen_wording)
        return self.processor.example(sample, question, None)
