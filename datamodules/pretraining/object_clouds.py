"""Samples that name objects come in, the points of each object go out: cut from its scan once, kept in memory."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import torch
from torch import Tensor

from datamodules.benchmarks.base import BadItemError, BadItems, BadPolicy
from datamodules.benchmarks.documents import load_json
from datamodules.miniature.rooms.furniture.catalogue import (
    HELD_OUT_PAIRS,
    HELD_OUT_STYLES,
    UNSEEN_CLASSES,
)
from octavius.boxes import Box3D
from octavius.instruction.clouds import read_points
from octavius.instruction.crops import FEWEST, MARGIN, inside, resampled
from octavius.instruction.sample import ClassName, Media, Sample

FACTS = "objects.json"
"""What is true of the objects of the miniature's scans, beside them; other sets have no such file."""

KEPT = 4096
"""Points kept of an object and its surroundings."""


@dataclass(frozen=True)
class Facts:
    """What annotations do not tell.

    Attributes:
        colour: its colour; empty when it is not known.
        front: where its front looks, as the yaw from which a view shows it; None for no front.
        held_out: whether training never shows such an object.
    """

    colour: str = ""
    front: float | None = None
    held_out: bool = False


@dataclass(frozen=True)
class ObjectCloud:
    """One object with what lies around it.

    Attributes:
        key: its name within its set.
        name: its class.
        names: the classes that were possible.
        box: its box in the frame of the points; None when it is all of its cloud.
        points: (K, 6) float32: x, y, z, red, green, blue.
        facts: what else is known.
    """

    key: str
    name: str
    names: tuple[str, ...]
    box: Box3D | None
    points: Tensor
    facts: Facts

    def own_points(self) -> Tensor:
        """All points (K, 6) in the object's box and the margin around it."""
        return self.points if self.box is None else self.points[inside(self.points, self.box)]

    def crop(self, count: int, jitter: float, generator: torch.Generator | None) -> Tensor:
        """Points (count, 6) in the object's box, or in one that is as far off as a detector's may be.

        They are those of `octavius.instruction.crops.crop`, which cuts objects out of whole scenes.

        Args:
            count: how many.
            jitter: how far off, as a share of the sides: the middle at most so much, a side from so much too
                short to twice as much too long. 0 takes the box itself.
            generator: decides; without it the choice is the same always.
        """
        if self.box is None:
            return resampled(self.points, count, generator)
        box = _jittered(self.box, jitter, generator) if jitter and generator is not None else self.box
        found = inside(self.points, box)
        if len(found) < FEWEST:  # it moved off
            found = inside(self.points, self.box)
        return resampled(self.points[found], count, generator)


def read_objects(
    samples: Sequence[Sample],
    facts: Mapping[str, Facts],
    jitter: float,
    bad: BadPolicy,
    source: Path,
) -> list[ObjectCloud]:
    """The objects that samples of 3D classification name; each scan is read once.

    Args:
        samples: from a reader of `datamodules.benchmarks`.
        facts: by the ids of samples.
        jitter: the largest share by which crops will be off, for which surroundings are kept.
        bad: `error` stops at an object of too few points or a broken cloud, `skip` leaves them out and warns.
        source: the folder that errors name.

    Raises:
        ValueError: the samples are of another task.
    """
    items = BadItems(bad, source)
    found = []
    for (_, pose), group in groupby(sorted(samples, key=_place), key=_place):
        several = list(group)
        with items.guard(f"the cloud of {several[0].id}"):
            whole = _read(Media(path=_media(several[0]).path, pose=pose or None))
            for sample in several:
                with items.guard(f"the object {sample.id}"):
                    found.append(_object(sample, whole, facts.get(sample.id, Facts()), jitter))
    items.report()
    order = {sample.id: place for place, sample in enumerate(samples)}
    return sorted(found, key=lambda one: order[one.key])


def read_facts(folder: Path) -> dict[str, Facts]:
    """What the miniature's rooms tell of their objects, by the ids of samples; nothing for other data sets."""
    if not (folder / FACTS).is_file():
        return {}
    return dict(_facts(load_json(folder / FACTS, dict)))


def _facts(rooms: Mapping[str, Mapping[str, list[dict[str, object]]]]) -> Iterator[tuple[str, Facts]]:
    for scan, room in rooms.items():
        for one in room["objects"]:
            name, front = one["name"], one["front"]
            pair, made = (one["colour"], name), (one["style"], name)
            held_out = pair in HELD_OUT_PAIRS or made in HELD_OUT_STYLES or name in UNSEEN_CLASSES
            yaw = math.atan2(-front[0], front[1]) if isinstance(front, list) else None
            yield f"{scan}-{one['id']}", Facts(str(one["colour"]), yaw, held_out)


def _read(media: Media) -> Tensor:
    try:
        return torch.from_numpy(read_points(media))
    except ValueError as error:
        raise BadItemError(str(error)) from None


def _object(sample: Sample, whole: Tensor, facts: Facts, jitter: float) -> ObjectCloud:
    """One object with so much around it as crops may hold."""
    region, gold = _media(sample).region, sample.gold
    assert isinstance(gold, ClassName)
    box = None if region is None else region.box
    count = len(whole) if box is None else len(inside(whole, box))
    if count < FEWEST:
        raise BadItemError(
            f"it has {count} points within {100 * MARGIN:g} cm of its box, fewer than {FEWEST}"
        )
    if box is None:
        points = whole
    else:
        sides = tuple(side * (1 + 4 * jitter) for side in box[3:6])
        points = whole[inside(whole, (*box[:3], *sides))]
    kept = resampled(points, KEPT) if len(points) > KEPT else points.clone()
    return ObjectCloud(sample.id, gold.name, gold.names, box, kept, facts)


def _jittered(box: Box3D, jitter: float, generator: torch.Generator) -> Box3D:
    moves = ((torch.rand(3, generator=generator) * 2 - 1) * jitter).tolist()
    factors = (1 - jitter + torch.rand(3, generator=generator) * 3 * jitter).tolist()
    x, y, z = (middle + move * side for middle, move, side in zip(box[:3], moves, box[3:6], strict=True))
    w, d, h = (side * factor for side, factor in zip(box[3:6], factors, strict=True))
    return x, y, z, w, d, h


def _media(sample: Sample) -> Media:
    media = sample.media.get("cloud")
    if media is None or media.path is None or not isinstance(sample.gold, ClassName):
        raise ValueError(
            f"{sample.benchmark} does not name the classes of clouds, as scannet_classification, "
            "shapenet_classification and modelnet_classification do; choose one of them"
        )
    return media


def _place(sample: Sample) -> tuple[str, tuple[tuple[float, float, float, float], ...]]:
    media = _media(sample)
    return str(media.path), media.pose or ()
