"""What a head says at the voxels of one level comes in; what all levels say, in metres, goes out."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from octavius.encoders.sparse.voxels import Voxels


@dataclass(frozen=True)
class Predictions:
    """What a detector says of a batch of scenes, before anything is chosen; N locations, C classes.

    A location is the lower corner of a voxel, as in the published detectors.

    Attributes:
        places: where the locations are (N, 3), metres.
        boxes: a box for each, centre and size (N, 6), metres.
        logits: how much it looks like each class (N, C).
        centreness: a logit (N,) of how near the location is to its box's centre; None of heads without it.
        levels: the level (N,) of each location, 0 for the finest.
        batch: the scene (N,) of each location.
        clouds: number of scenes.
    """

    places: Tensor
    boxes: Tensor
    logits: Tensor
    centreness: Tensor | None
    levels: Tensor
    batch: Tensor
    clouds: int

    def scene(self, number: int) -> "Predictions":
        """What is said of one scene."""
        rows = (self.batch == number).nonzero().squeeze(1)
        centreness = None if self.centreness is None else self.centreness[rows]
        parts = (self.places, self.boxes, self.logits, self.levels, self.batch)
        places, boxes, logits, levels, _ = (part[rows] for part in parts)
        return Predictions(places, boxes, logits, centreness, levels, torch.zeros_like(levels), 1)


def level(
    voxels: Voxels, size: float, number: int, boxes: Tensor, logits: Tensor, centreness: Tensor | None = None
) -> Predictions:
    """The predictions of one level, whose boxes (N, 6) are relative to its locations.

    Args:
        voxels: the N voxels.
        size: edge of a finest voxel, metres.
        number: of the level.
        boxes: centres less locations, and sizes (N, 6), metres.
        logits: of the classes (N, C).
        centreness: (N,), of heads that have it.
    """
    places = voxels.coords[:, 1:].to(boxes.dtype) * size
    absolute = torch.cat([boxes[:, :3] + places, boxes[:, 3:]], dim=1)
    levels = torch.full_like(voxels.keys, number)
    return Predictions(places, absolute, logits, centreness, levels, voxels.batch, voxels.batch_size)


def joined(parts: Sequence[Predictions]) -> Predictions:
    """The predictions of several levels as one."""
    centreness = [part.centreness for part in parts if part.centreness is not None]
    return Predictions(
        torch.cat([part.places for part in parts]),
        torch.cat([part.boxes for part in parts]),
        torch.cat([part.logits for part in parts]),
        torch.cat(centreness) if centreness else None,
        torch.cat([part.levels for part in parts]),
        torch.cat([part.batch for part in parts]),
        parts[0].clouds,
    )


def in_full(features: Tensor) -> Tensor:
    """Features in single precision at least: half of it would move a box by centimetres."""
    return features.to(torch.promote_types(features.dtype, torch.float32))
