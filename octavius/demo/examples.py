"""Questions of the evaluation sets for the page: what to try first, and what the gate does with each task."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
from PIL import Image

from octavius.callbacks.cloud_pictures import shown_part, splat, view_of
from octavius.demo.asking import Asked, Turn
from octavius.instruction.sample import Media
from octavius.media.clouds import read_points
from octavius.media.pictures import open_picture
from octavius.tasks import TASKS

MOST = 24
"""Number of examples that the page shows."""
CHIPS = 8
"""Number of questions that it suggests."""
PER_TASK = 8
"""Number of questions over which the weights of a task's experts are averaged."""
SIDE = 240
"""Longer side of an example's picture in pixels."""


@dataclass(frozen=True)
class Example:
    """A sample of an evaluation set.

    Attributes:
        benchmark: name of the set.
        task: its task.
        question: its question.
        truth: the right answer.
        media: modality to medium.
        own: whether the question belongs to this sample alone, as in visual question answering.
    """

    benchmark: str
    task: str
    question: str
    truth: str
    media: Mapping[str, Media]
    own: bool


def pictured(examples: Sequence[Example], modalities: Sequence[str]) -> list[tuple[Example, Image.Image]]:
    """The first examples of each set with a small picture; those that cannot be read or asked are left out."""
    found: list[tuple[Example, Image.Image]] = []
    for example in _in_turn(examples):
        if len(found) == MOST:
            break
        if not set(example.media) <= set(modalities):
            continue
        with suppress(ValueError):
            if (image := _picture(example.media)) is not None:
                found.append((example, image))
    return found


def _in_turn(examples: Sequence[Example]) -> Iterator[Example]:
    """First one example of each set, then another of each, and so on."""
    sets: dict[str, list[Example]] = {}
    for example in examples:
        sets.setdefault(example.benchmark, []).append(example)
    for turn in range(max(map(len, sets.values()), default=0)):
        yield from (items[turn] for items in sets.values() if turn < len(items))


def _picture(media: Mapping[str, Media]) -> Image.Image | None:
    """A small picture of an image or a cloud; None for media that cannot be shown."""
    if "image" in media and media["image"].path is not None:
        image = open_picture(media["image"])
        image.thumbnail((SIDE, SIDE))
        return image
    if "cloud" in media:
        region = media["cloud"].region
        points = shown_part(read_points(media["cloud"]), None if region is None else region.box)
        return Image.fromarray(splat(points, view_of(points[:, :3].astype(np.float64))))
    return None


def chips(examples: Sequence[Example], modalities: Sequence[str]) -> list[str]:
    """Questions to suggest: those that fit any picture or scan, or need none, one of each task first."""
    tasks: dict[str, dict[str, None]] = {}
    for example in examples:
        if not (example.own and example.media) and set(example.media) <= set(modalities):
            tasks.setdefault(example.task, {})[example.question] = None
    if not tasks:  # no data: what the tasks ask of the model's modalities
        names = [
            name for name, kind in (("captioning", "image"), ("captioning3d", "cloud")) if kind in modalities
        ]
        tasks = {name: dict.fromkeys(TASKS[name].questions[:3]) for name in names}
    rows = [list(questions) for questions in tasks.values()]
    longest = max(map(len, rows), default=0)
    found = [row[turn] for turn in range(longest) for row in rows if turn < len(row)]
    return found[:CHIPS]


def by_task(examples: Sequence[Example]) -> dict[str, list[Example]]:
    """Some examples of each task; of each set, if all sets have the same task."""
    single = len({example.task for example in examples}) == 1
    found: dict[str, list[Example]] = {}
    for example in _in_turn(examples):
        items = found.setdefault(example.benchmark if single else example.task, [])
        if len(items) < PER_TASK:
            items.append(example)
    return found


def task_weights(asked: Asked, examples: Sequence[Example]) -> list[float]:
    """The gate's mean weights (E,) over the questions of some examples.

    Raises:
        ValueError: no question can be asked.
    """
    rows = []
    for example in examples:
        *_, last = asked.answer(Turn(example.question, example.media), max_new_tokens=1)
        if last.answer.weights is not None:
            rows.append(last.answer.weights)
    if not rows:
        raise ValueError("this model has no gate whose weights could be averaged")
    return [float(weight) for weight in np.mean(rows, axis=0)]
