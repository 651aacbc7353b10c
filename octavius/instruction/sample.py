"""`Sample`, the unit of data, with its media and golds (ground truth): frozen dataclasses without tensors."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

import numpy as np

from octavius.boxes import Box, Box3D

Pose: TypeAlias = tuple[tuple[float, float, float, float], ...]
"""First to last row of a rigid 4 x 4 matrix, applied to points (x, y, z, 1)."""


@dataclass(frozen=True)
class LabelledBox:
    """An object in an image: class name and box.

    Attributes:
        label: class name.
        box: its box.
        score: confidence of a prediction; meaningless in a gold, and not compared.
        ignored: a gold object that need not be found (VOC's difficult ones, COCO's crowds); detecting it
            is not a false positive.
    """

    label: str
    box: Box
    score: float = field(default=1.0, compare=False)
    ignored: bool = False


@dataclass(frozen=True)
class LabelledBox3D:
    """An object in a scene: class name and box.

    Attributes:
        label: class name.
        box: its box.
        score: confidence of a prediction; meaningless in a gold.
        ignored: a gold object that need not be found because too little of it is visible; detecting it
            is not a false positive.
    """

    label: str
    box: Box3D
    score: float = 1.0
    ignored: bool = False


@dataclass(frozen=True)
class Choice:
    """Gold of a multiple-choice question: the options, the index of the right one, and the reason.

    A non-empty reason precedes the answer in training.
    """

    options: tuple[str, ...]
    answer: int
    reason: str = ""


@dataclass(frozen=True)
class ClassName:
    """Gold of a closed-vocabulary question: the name, and all candidate names."""

    name: str
    names: tuple[str, ...]


@dataclass(frozen=True)
class Boxes:
    """Gold of a detection: all objects of the image."""

    objects: tuple[LabelledBox, ...]


@dataclass(frozen=True)
class Boxes3D:
    """Gold of a detection in a point cloud: all objects of the scene."""

    objects: tuple[LabelledBox3D, ...]


@dataclass(frozen=True)
class References:
    """Gold of a free-text answer: texts, any of which is correct.

    Attributes:
        texts: the texts.
        scene: name of the scene, for scores that are computed per scene; may be empty.
        reason: text that precedes the first text in training, for tasks that give reasons; may be empty.
    """

    texts: tuple[str, ...]
    scene: str = ""
    reason: str = ""


@dataclass(frozen=True)
class DescribedObject:
    """An object of a scene: its box, and texts that each describe it."""

    box: Box3D
    texts: tuple[str, ...]


@dataclass(frozen=True)
class DescribedObjects:
    """Gold of dense captioning: all described objects of the scene."""

    objects: tuple[DescribedObject, ...]


@dataclass(frozen=True)
class FoundObject:
    """Gold of a caption for a detected box: the box, and all described objects of the scene.

    Attributes:
        scene: name of the scene; the captions of a scene are scored together.
        box: the detected box.
        objects: all described objects of the scene, with their ground-truth boxes.
    """

    scene: str
    box: Box3D
    objects: tuple[DescribedObject, ...]


Gold: TypeAlias = Boxes | References | Choice | ClassName | Boxes3D | DescribedObjects | FoundObject


@dataclass(frozen=True)
class Region:
    """The object of a scene that a sample is about.

    A scene is one file with many objects, and a question such as "What is this?" refers to one of them. The
    name is used in keys of tables and caches, the box for the crop and for the position that the encoder
    adds.

    Attributes:
        object: its name in the annotation files of the scene, usually a number.
        box: its axis-aligned box (centre, size) in the cloud's frame, after `Media.pose`; None if the object
            is the whole cloud, as in sets of single objects.
    """

    object: str
    box: Box3D | None


@dataclass(frozen=True)
class Media:
    """Reference to an image, a cloud or RoI features: a file or folder, or an array in memory.

    References are equal if path, pose, region and objects are: how an image is to be shown (`stored`, `size`) is
    not compared. Nor is `array`, so references to different arrays may be equal.

    Attributes:
        path: the file, or the folder with the RoI features of a scene.
        array: the content, instead of a path.
        pose: rigid motion from the file's frame to the frame of the sample, upright and aligned with the
            walls; None for identity. Scans and object sets come in frames of their own, known from their
            annotation files.
        region: the object that is meant; None for the whole.
        objects: boxes of all annotated objects of the scene, after the pose, for encoders that use them
            instead of a detector's; None if unknown.
        stored: do not apply EXIF orientation, because annotated boxes refer to the pixels as stored.
        size: width and height in pixels that the boxes refer to, if annotated. The file may be a scaled copy. If
            only the EXIF-rotated image has this aspect ratio, the boxes refer to that one; if neither has, loading
            fails.
    """

    path: Path | None = None
    array: np.ndarray | None = field(default=None, compare=False)
    pose: Pose | None = None
    region: Region | None = None
    objects: tuple[Box3D, ...] | None = None
    stored: bool = field(default=False, compare=False)
    size: tuple[int, int] | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        """Checks that exactly one of path and array is given."""
        if (self.path is None) == (self.array is None):
            raise ValueError("a Media holds either a path or an array, exactly one of them")


@dataclass(frozen=True)
class Sample:
    """One sample of one task.

    Attributes:
        id: unique within its benchmark and split.
        task: a key of `octavius.tasks.TASKS`.
        benchmark: the name of the reader that made it, a key of `datamodules.benchmarks.BENCHMARKS`.
        media: media by modality (`image`, `cloud`, `rois`), which stand before the first question; empty for a
            text-only sample.
        question: question of the data set; empty if the task asks its own.
        gold: the right answer, of the type that the task expects.
        history: earlier (question, answer) turns of a conversation, oldest first.
        group: a subdivision of the benchmark (such as a question's topic), for tables; may be empty.
        protocol: how its answer is scored, a key of `octavius.metrics.PROTOCOLS`; set by evaluation sets.
        decimals: decimals of box coordinates in answers.
        placed: further media, any number of each modality, as (modality, medium). They stand in `question` and in
            the questions of `history` where placeholders such as `<image>` are, in the order of these.
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
    placed: tuple[tuple[str, Media], ...] = ()

    @property
    def all_media(self) -> list[tuple[str, Media]]:
        """All media with their modalities, in the order in which the prompt shows those of each modality."""
        return [*self.media.items(), *self.placed]
