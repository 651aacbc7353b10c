"""A batch comes in, the same batch with less to go by goes out: what a score is worth is seen beside such controls.

A model that has not looked at a cloud may still score well, for questions and answers have their habits. Each control
takes something away and leaves all else as it was:

    majority   no model: the training answer that is most frequent for this kind of question
    text       the media: their slots are hidden from attention
    box        the objects' features: zeros, so that their boxes are all that is known of them
    shuffled   the objects' own features: each has those of an object of another scene, in its own box
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from copy import copy
from dataclasses import replace
from typing import Any, Literal, TypeAlias, get_args

import torch
from torch import Tensor

from octavius.callbacks.scoring.answers import Answered
from octavius.instruction.batch import Batch
from octavius.instruction.sample import Media, Sample
from octavius.tasks import TASKS

Control: TypeAlias = Literal["majority", "text", "box", "shuffled"]

ALL: tuple[Control, ...] = get_args(Control)


def text_only(batch: Batch) -> Batch:
    """The batch with every media slot hidden from attention; the tags around them stay."""
    mask = batch.attention_mask.clone()
    for places in batch.slots.values():
        mask[places[:, 0], places[:, 1]] = 0
    return replace(batch, attention_mask=mask)


def box_only(batch: Batch) -> Batch:
    """The batch with zeros for the features of all objects; media without boxes stay as they are."""
    media = {
        name: _with_features(value, torch.zeros_like(value.x)) if _has_boxes(value) else value
        for name, value in batch.media.items()
    }
    return replace(batch, media=media)


def shuffled(batch: Batch) -> Batch:
    """The batch with the features of objects, not their boxes, changed between scenes.

    Media of one file are one scene, however many samples ask about it. Media without boxes, such as pictures, are
    changed as wholes.
    """
    media = {}
    for name, value in batch.media.items():
        scenes = _scenes([sample.media[name] for sample in batch.samples if name in sample.media])
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
"""The controls that ask the model again."""


def partners(scenes: Tensor) -> Tensor:
    """For each thing (N,) the one whose features it gets: each is got once, and none within its scene if possible.

    All stand in line, scene by scene, in an order drawn by chance. Each gets the features of the one as far ahead as
    the largest scene is long, at the end from the front again. So one stays in its scene only where that scene has
    more than half of all, and then as few as can be.

    Args:
        scenes: number of the scene of each thing (N,).
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
    """The same samples, each answered as most training samples of its task and group are.

    A group that training does not have takes the whole task; a task that it does not have is left out. Where several
    answers to a training sample are right, each counts.
    """
    counts: dict[tuple[str, str | None], Counter[str]] = {}
    asked = {item.sample.task for item in items}
    for sample in training:
        if sample.task in asked:
            for key in ((sample.task, sample.group), (sample.task, None)):
                counts.setdefault(key, Counter()).update(TASKS[sample.task].right_answers(sample))
    # Of equally frequent ones the first in the alphabet, so that it does not hang on the order of samples.
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
    """A batch of objects with other features; what came in stays as it was."""
    changed = copy(value)
    changed.x = features
    return changed


def _scenes(media: Sequence[Media]) -> Tensor:
    """A number for each medium, the same for those of one file (M,)."""
    keys = [id(item.array) if item.path is None else str(item.path) for item in media]
    numbers = {key: number for number, key in enumerate(dict.fromkeys(keys))}
    return torch.tensor([numbers[key] for key in keys], dtype=torch.long)
