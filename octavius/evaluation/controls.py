"""The blind controls: what a model scores without looking at some of its input.

A model that ignores a point cloud may still score well, because questions and answers are biased. Each
control removes one kind of information and keeps everything else:

    majority   no model: the most frequent training answer to this kind of question
    text       no media: their slots are masked
    box        no object features: zeros, so that only the boxes of objects are known
    shuffled   wrong object features: each box gets those of an object of another scene
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from copy import copy
from dataclasses import replace
from typing import Any, Literal, TypeAlias, get_args

import torch
from torch import Tensor

from octavius.evaluation.answers import Answered
from octavius.instruction.batch import Batch
from octavius.instruction.sample import Media, Sample
from octavius.tasks import TASKS

Control: TypeAlias = Literal["majority", "text", "box", "shuffled"]

ALL: tuple[Control, ...] = get_args(Control)


def text_only(batch: Batch) -> Batch:
    """The batch with every media slot masked; the tags around them stay."""
    mask = batch.attention_mask.clone()
    for positions in batch.slots.values():
        mask[positions[:, 0], positions[:, 1]] = 0
    return replace(batch, attention_mask=mask)


def box_only(batch: Batch) -> Batch:
    """The batch with the features of all objects set to zero; media without boxes are unchanged."""
    media = {
        name: _with_features(value, torch.zeros_like(value.x)) if _has_boxes(value) else value
        for name, value in batch.media.items()
    }
    return replace(batch, media=media)


def shuffled(batch: Batch) -> Batch:
    """The batch with the features of objects, but not their boxes, exchanged between scenes.

    Media of the same file are one scene, however many samples use it. Media without boxes, such as images,
    are exchanged as a whole.
    """
    media = {}
    for name, value in batch.media.items():
        scenes = _scenes([item for one in batch.samples for kind, item in one.all_media if kind == name])
        if _has_boxes(value):
            order = partners(scenes[value.batch.cpu()]).to(value.x.device)
            media[name] = _with_features(value, value.x[order])
        else:
            media[name] = value[partners(scenes).to(value.device)]
    return replace(batch, media=media)


CONTROLS: dict[Control, Callable[[Batch], Batch]] = {
    "text": text_only,
    "box": box_only,
    "shuffled": shuffled,
}
"""The controls that run the model."""


def partners(scenes: Tensor) -> Tensor:
    """Permutes objects (N,): the index of the one whose features each gets, from another scene if possible.

    The objects are ordered scene by scene, at random otherwise, and rotated by the size of the largest scene.
    So an object gets features of its own scene only if that scene has more than half of all objects, and then
    as few do as possible.

    Args:
        scenes: scene index of each object (N,).
    """
    if not len(scenes):
        return scenes
    generator = torch.Generator().manual_seed(0)
    _, numbers = scenes.unique(return_inverse=True)
    mixed = torch.randperm(len(scenes), generator=generator)
    ranks = torch.randperm(int(numbers.max()) + 1, generator=generator)
    line = mixed[ranks[numbers[mixed]].argsort(stable=True)]
    found = torch.empty_like(line)
    found[line] = line.roll(-int(numbers.bincount().max()))
    return found


def majority(training: Iterable[Sample], items: Sequence[Answered]) -> list[Answered]:
    """The samples, each with the most frequent answer of the training samples of its task and group.

    A group that is not in the training data falls back to its task; samples of other tasks are left out. If
    several answers to a training sample are right, each counts.
    """
    counts: dict[tuple[str, str | None], Counter[str]] = {}
    asked = {item.sample.task for item in items}
    for sample in training:
        if sample.task in asked:
            for key in ((sample.task, sample.group), (sample.task, None)):
                counts.setdefault(key, Counter()).update(TASKS[sample.task].right_answers(sample))
    # Ties are resolved alphabetically, so that the order of samples does not matter.
    commonest = {key: min(texts, key=lambda text: (-texts[text], text)) for key, texts in counts.items()}
    found = []
    for item in items:
        task, group = item.sample.task, item.sample.group
        text = commonest.get((task, group), commonest.get((task, None)))
        if text is not None:
            found.append(replace(item, text=text, value=TASKS[task].parse(text, item.sample), gate=None))
    return found


def _has_boxes(value: Any) -> bool:
    return hasattr(value, "boxes")


def _with_features(value: Any, features: Tensor) -> Any:
    """A copy of a batch of objects with other features."""
    changed = copy(value)
    changed.x = features
    return changed


def _scenes(media: Sequence[Media]) -> Tensor:
    """A scene index for each medium (M,), equal for media of the same file."""
    keys = [id(item.array) if item.path is None else str(item.path) for item in media]
    numbers = {key: number for number, key in enumerate(dict.fromkeys(keys))}
    return torch.tensor([numbers[key] for key in keys], dtype=torch.long)
