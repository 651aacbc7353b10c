"""Answers of other programs to the samples of a benchmark: what its reader of submissions gives, and the plain form.

The reader of a benchmark's own format is in the benchmark's file.
"""

import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any, TypeAlias

from datamodules.benchmarks.base import BadItemError
from datamodules.benchmarks.documents import load_json
from datamodules.benchmarks.values import shown
from octavius.boxes import box_error, clip
from octavius.instruction.sample import Boxes, LabelledBox, Sample


@dataclass
class Submission:
    """The content of predictions files.

    Attributes:
        answers: answer by sample id, in a form that the sample's task parses.
        scores: confidence of each box of an answer, by sample id.
        unscored: ids of the split that are not among the samples, such as problems without an image.
        partial: whether a sample without an entry is answered, by no box.
    """

    answers: dict[str, str] = field(default_factory=dict)
    scores: dict[str, tuple[float, ...]] = field(default_factory=dict)
    unscored: Collection[str] = frozenset()
    partial: bool = False

    def add(self, key: str, answer: str) -> None:
        """Adds an answer.

        Raises:
            BadItemError: there is one with this id.
        """
        if key in self.answers:
            raise BadItemError(f"the id {shown(key)} stands twice; score one answer of each sample")
        self.answers[key] = answer


@dataclass(frozen=True)
class Asked:
    """What a submission answers.

    Attributes:
        folder: folder of the data set.
        split: name of the split.
        samples: samples of the split by id.
    """

    folder: Path
    split: str
    samples: Mapping[str, Sample]


AnswerReader: TypeAlias = Callable[[Path, Asked], Submission]
"""Reads a file, or a folder of files, with answers; raises `BadItemError` for what is malformed."""


def read_plain(path: Path, asked: Asked) -> Submission:
    """The form of benchmarks without one of their own: `{"<sample id>": "<answer>", ..}`."""
    content = load_json(path, dict)
    if any(isinstance(sample.gold, Boxes) for sample in asked.samples.values()):
        raise BadItemError("boxes are not taken as texts; expected the format of VOC or COCO")
    if wrong := next((key for key, text in content.items() if not isinstance(text, str)), None):
        raise BadItemError(f"the answer of {shown(wrong)} should be a text, found {shown(content[wrong])}")
    return Submission(content)


def records(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """The objects of a JSON list, and the place of each."""
    for index, record in enumerate(load_json(path, list)):
        if not isinstance(record, dict):
            raise BadItemError(f"item {index} should be an object, found {shown(record)}")
        yield f"item {index}", record


def scored_box(label: str, edges: Sequence[float], size: tuple[int, int], score: float) -> LabelledBox:
    """A box in pixels as fractions of the image; what lies outside of the image is cut off."""
    width, height = size
    box = clip((edges[0] / width, edges[1] / height, edges[2] / width, edges[3] / height))
    if not math.isfinite(score) or (wrong := box_error(box)):
        raise BadItemError(
            f"the box {shown(list(edges))} is wrong: {wrong if math.isfinite(score) else 'its score'}"
        )
    return LabelledBox(label, box, score)


def detections(boxes: list[tuple[str, LabelledBox]], known: Collection[str]) -> Submission:
    """Boxes by image as answers of the task `detection`, those of highest score first."""
    found = Submission(unscored=known, partial=True)
    for key, group in groupby(
        sorted(boxes, key=lambda item: (item[0], -item[1].score)), lambda item: item[0]
    ):
        items = [item for _, item in group]
        found.answers[key] = ", ".join(
            f"{item.label} [{', '.join(f'{edge:.7f}' for edge in item.box)}]" for item in items
        )
        found.scores[key] = tuple(item.score for item in items)
    return found
