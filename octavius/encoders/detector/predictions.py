"""Raw predictions of a detector at all locations, in metres."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from octavius.encoders.sparse.voxels import Voxels


@dataclass(frozen=True)
class Predictions:
    """Predictions for a batch of scenes before any selection; N locations, C classes.

    A location is the lower corner of a voxel, as in the published detectors.

    Attributes:
        positions: (N, 3) locations in metres.
        boxes: (N, 6) box of each location, centre and size in metres.
        logits: (N, C) class logits.
        centreness: (N,) logit of the location's centre-ness in its box; None for heads without it.
        levels: (N,) level of each location, 0 for the finest.
        batch: (N,) scene of each location.
        clouds: number of scenes.
    """

    positions: Tensor
    boxes: Tensor
    logits: Tensor
    centreness: Tensor | None
    levels: Tensor
    batch: Tensor
    clouds: int

    def scene(self, number: int) -> "Predictions":
        """The predictions for one scene."""
        rows = (self.batch == number).nonzero().squeeze(1)
        centreness = None if self.centreness is None else self.centreness[rows]
        parts = (self.positions, self.boxes, self.logits, self.levels, self.batch)
        positions, boxes, logits, levels, _ = (part[rows] for part in parts)
        return Predictions(positions, boxes, logits, centreness, levels, torch.zeros_like(levels), 1)


def level(
    voxels: Voxels, size: float, number: int, boxes: Tensor, logits: Tensor, centreness: Tensor | None = None
) -> Predictions:
    """The predictions of one level, from boxes relative to its locations.

    Args:
        voxels: the N voxels.
        size: edge of the finest voxels in metres.
        number: index of the level.
        boxes: (N, 6) centres relative to the locations, and sizes, in metres.
        logits: (N, C) class logits.
        centreness: (N,) logits, for heads that have them.
    """
    positions = voxels.coords[:, 1:].to(boxes.dtype) * size
    absolute = torch.cat([boxes[:, :3] + positions, boxes[:, 3:]], dim=1)
    levels = torch.full_like(voxels.keys, number)
    return Predictions(positions, absolute, logits, centreness, levels, voxels.batch, voxels.batch_size)


def joined(parts: Sequence[Predictions]) -> Predictions:
    """Concatenates the predictions of several levels."""
    centreness = [part.centreness for part in parts if part.centreness is not None]
    return Predictions(
        torch.cat([part.positions for part in parts]),
        torch.cat([part.boxes for part in parts]),
        torch.cat([part.logits for part in parts]),
        torch.cat(centreness) if centreness else None,
        torch.cat([part.levels for part in parts]),
        torch.cat([part.batch for part in parts]),
        parts[0].clouds,
    )


def in_full(features: Tensor) -> Tensor:
    """Converts features to at least single precision: half precision would move a box by centimetres."""
    return features.to(torch.promote_types(features.dtype, torch.float32))
