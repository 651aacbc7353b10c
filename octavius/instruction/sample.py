"""Facts read from files come in, frozen `Sample`s without a tensor go out: the unit of the whole road."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

import numpy as np

from octavius.boxes import Box


@dataclass(frozen=True)
class LabelledBox:
    """One object: its class name and its box."""

    label: str
    box: Box


@dataclass(frozen=True)
class Choice:
    """The gold of a multiple-choice question: all options and the index of the right one."""

    options: tuple[str, ...]
    answer: int


@dataclass(frozen=True)
class ClassName:
    """The gold of a closed-vocabulary question: the name, and every name that was possible."""

    name: str
    names: tuple[str, ...]


@dataclass(frozen=True)
class Boxes:
    """The gold of a detection: all objects of the image."""

    objects: tuple[LabelledBox, ...]


@dataclass(frozen=True)
class References:
    """The gold of a free-text answer: one or more texts that are all right."""

    texts: tuple[str, ...]


Gold: TypeAlias = Boxes | References | Choice | ClassName


@dataclass(frozen=True)
class Media:
    """Where one picture (or cloud) is: a file, or an array that is already in memory."""

    path: Path | None = None
    array: np.ndarray | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        """Refuses a reference to nothing, or to two things."""
        if (self.path is None) == (self.array is None):
            raise ValueError("a Media holds either a path or an array, exactly one of them")


@dataclass(frozen=True)
class Sample:
    """One instance of one task.

    Attributes:
        id: unique within its benchmark and split.
        task: a key of `octavius.tasks.TASKS`.
        benchmark: the name of the reader that made it, a key of `datamodules.benchmarks.BENCHMARKS`.
        media: modality name (`image`) to where its file is; empty for a text-only sample.
        question: the question of the data set; empty when the task asks one of its own.
        gold: the right answer, typed by the task.
        history: earlier (question, answer) turns of a conversation, oldest first.
        group: a finer name within the benchmark (a question's topic), for tables; empty when there is none.
    """

    id: str
    task: str
    benchmark: str
    media: Mapping[str, Media]
    question: str
    gold: Gold
    history: tuple[tuple[str, str], ...] = ()
    group: str = ""
