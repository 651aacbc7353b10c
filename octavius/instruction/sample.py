"""Facts read from files come in, frozen `Sample`s without a tensor go out: the unit of the whole road."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

import numpy as np

from octavius.boxes import Box, Box3D

Pose: TypeAlias = tuple[tuple[float, float, float, float], ...]
"""The four rows of a rigid 4 x 4 matrix that is applied to points (x, y, z, 1)."""


@dataclass(frozen=True)
class LabelledBox:
    """One object: its class name and its box.

    Attributes:
        label: its class name.
        box: where it is.
        score: how sure a model is of it; of a gold object it says nothing, and boxes compare without it.
        ignored: a gold object that need not be found (VOC's difficult ones, COCO's crowds); finding it is no error.
    """

    label: str
    box: Box
    score: float = field(default=1.0, compare=False)
    ignored: bool = False


@dataclass(frozen=True)
class LabelledBox3D:
    """One object of a scene: its class name and its box.

    Attributes:
        label: its class name.
        box: where it is.
        score: how sure a detector is of it; of a gold object it says nothing.
        ignored: a gold object that need not be found, because too little of it is seen; finding it is no error.
    """

    label: str
    box: Box3D
    score: float = 1.0
    ignored: bool = False


@dataclass(frozen=True)
class Choice:
    """The gold of a multiple-choice question: all options, the index of the right one, and why it is right.

    A reason that is not empty is said before the answer.
    """

    options: tuple[str, ...]
    answer: int
    reason: str = ""


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
class Boxes3D:
    """The gold of a detection in a point cloud: all objects of the scene."""

    objects: tuple[LabelledBox3D, ...]


@dataclass(frozen=True)
class References:
    """The gold of a free-text answer: one or more texts that are all right.

    Attributes:
        texts: the texts.
        scene: the scene that they speak of, for scores that are counted by scene; empty where there is none.
        reason: why the first text is right, for tasks that say so before it; empty says the text alone.
    """

    texts: tuple[str, ...]
    scene: str = ""
    reason: str = ""


@dataclass(frozen=True)
class DescribedObject:
    """One object of a scene: its box, and texts that all describe it."""

    box: Box3D
    texts: tuple[str, ...]


@dataclass(frozen=True)
class DescribedObjects:
    """The gold of a dense captioning: every object of the scene that is described."""

    objects: tuple[DescribedObject, ...]


@dataclass(frozen=True)
class FoundObject:
    """The gold of a caption of what a detector found: where that is, and all that is truly described there.

    Attributes:
        scene: its name; all that was found in one scene is scored together.
        box: the found box.
        objects: every described object of the scene, with its true box.
    """

    scene: str
    box: Box3D
    objects: tuple[DescribedObject, ...]


Gold: TypeAlias = Boxes | References | Choice | ClassName | Boxes3D | DescribedObjects | FoundObject


@dataclass(frozen=True)
class Region:
    """The one object of a scene that a sample speaks of.

    A scene is one file with many objects, and a question such as "What is this?" means one of them, so the
    reference to the file says which: by its name, for keys of tables and caches, and by its box, for the
    crop and for the position that the encoder adds.

    Attributes:
        object: what the annotation files of the scene call it, most often a number.
        box: its axis-aligned box (centre, size) in the cloud's frame, after `Media.pose`; None when the object
            is all of the cloud, as in sets of single objects.
    """

    object: str
    box: Box3D | None


@dataclass(frozen=True)
class Media:
    """Where one picture (or cloud) is: a file, or an array that is already in memory.

    Two of them are equal that refer to the same thing, whichever way a picture is to be shown.

    Attributes:
        path: the file.
        array: the content itself.
        pose: brings the points of the file into the frame that the sample speaks in, upright and aligned
            with the walls; None where they are so already. Scans and object sets come in frames of their
            own, which only their annotation files tell.
        region: the object that is meant; None for the whole.
        objects: the boxes of all annotated objects of the scene, in the frame of the pose, for encoders that
            are told to take them for a detector's; None where they are not known.
        stored: shows a picture as its pixels are stored, without the turn that its EXIF data ask for, because
            annotated boxes are drawn on them so.
        size: width and height, in pixels, that those boxes were told in, where the annotations tell; where it is
            that of the turned picture and not of the stored one, the boxes are on that.
    """

    path: Path | None = None
    array: np.ndarray | None = field(default=None, compare=False)
    pose: Pose | None = None
    region: Region | None = None
    objects: tuple[Box3D, ...] | None = None
    stored: bool = field(default=False, compare=False)
    size: tuple[int, int] | None = field(default=None, compare=False)

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
        media: modality name (`image`, `cloud`, `rois`) to where its file is; empty for a text-only sample.
        question: the question of the data set; empty when the task asks one of its own.
        gold: the right answer, typed by the task.
        history: earlier (question, answer) turns of a conversation, oldest first.
        group: a finer name within the benchmark (a question's topic), for tables; empty when there is none.
        protocol: how its answer is scored, a key of `octavius.metrics.PROTOCOLS`; evaluation sets choose it.
        decimals: with how many an answer says the numbers of a box.
    """

    id: str
    task: str
    benchmark: str
    media: Mapping[str, Media]
    question: str
    gold: Gold
    history: tuple[tuple[str, str], ...] = ()
    group: str = ""
    protocol: str = "standard"
    decimals: int = 2
