"""Point clouds of single objects: cropped from scans, each of which is read once, and kept in memory."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import torch
from torch import Tensor

from datamodules.benchmarks.base import BadItemError, BadItems, BadPolicy
from octavius.boxes import Box3D
from octavius.instruction.sample import ClassName, Media, Sample
from octavius.media.clouds import read_points
from octavius.media.crops import FEWEST, MARGIN, inside, resampled

KEPT = 4096
"""Points kept of an object and its surroundings."""


@dataclass(frozen=True)
class Facts:
    """Facts about an object that no annotation file of the data set holds.

    Attributes:
        colour: its colour; empty if unknown.
        front: yaw in radians from which a view shows its front (see `render`); None if it has no front.
        held_out: whether such objects are held out of training.
    """

    colour: str = ""
    front: float | None = None
    held_out: bool = False


@dataclass(frozen=True)
class ObjectCloud:
    """An object with its surroundings.

    Attributes:
        key: its name within its set.
        name: its class.
        names: the candidate classes.
        box: its box in the frame of the points; None if it is its whole cloud.
        points: (K, 6) float32, x, y, z, red, green, blue.
        facts: unannotated facts.
    """

    key: str
    name: str
    names: tuple[str, ...]
    box: Box3D | None
    points: Tensor
    facts: Facts

    def own_points(self) -> Tensor:
        """The points (K, 6) inside the object's box, enlarged by the margin of `octavius.media.crops`."""
        return self.points if self.box is None else self.points[inside(self.points, self.box)]

    def crop(self, count: int, jitter: float, generator: torch.Generator | None) -> Tensor:
        """Points (count, 6) in the object's box, or in a perturbed box, as a detector would find it.

        Equal to what `octavius.media.crops.crop` returns for the same box from the whole scene.

        Args:
            count: number of points.
            jitter: perturbation as a fraction of the sides: the centre moves by at most `jitter`, sides are
                scaled by 1 - jitter to 1 + 2 * jitter. 0 takes the box itself.
            generator: random generator; without it the result is deterministic.
        """
        if self.box is None:
            return resampled(self.points, count, generator)
        box = _jittered(self.box, jitter, generator) if jitter and generator is not None else self.box
        found = inside(self.points, box)
        if len(found) < FEWEST:  # the perturbed box misses the object
            found = inside(self.points, self.box)
        return resampled(self.points[found], count, generator)


def read_objects(
    samples: Sequence[Sample],
    facts: Mapping[str, Facts],
    jitter: float,
    bad: BadPolicy,
    source: Path,
) -> list[ObjectCloud]:
    """The objects of classification samples; each scan is read once.

    Args:
        samples: samples from a reader of `datamodules.benchmarks`.
        facts: facts by sample id.
        jitter: largest perturbation that `ObjectCloud.crop` will be called with; decides how much surroundings to
            keep.
        bad: `error` stops at an object with too few points or a malformed cloud, `skip` leaves them out and
            warns.
        source: folder named in errors.

    Raises:
        ValueError: the samples are of another task, or an object is bad (with `bad="error"`).
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
    # `groupby` needed the samples sorted by scan; restore their order.
    order = {sample.id: index for index, sample in enumerate(samples)}
    return sorted(found, key=lambda one: order[one.key])


def _read(media: Media) -> Tensor:
    try:
        return torch.from_numpy(read_points(media))
    except ValueError as error:
        raise BadItemError(str(error)) from None


def _object(sample: Sample, whole: Tensor, facts: Facts, jitter: float) -> ObjectCloud:
    """An object with as much of its surroundings as crops may contain."""
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
        # A perturbed box is moved by `jitter` either way and up to 1 + 2 * jitter times as long: see `crop`.
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
