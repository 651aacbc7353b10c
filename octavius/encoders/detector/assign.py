"""Locations and true boxes of one scene come in; which location is to find which box goes out."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from octavius.boxes3d import edges

NOBODY = -1
"""Stands for a location that is to find no box."""

INSIDE, BEST = 27, 18
"""FCAF3D: how many locations a level needs inside a box to be chosen, and how many of them are to find it."""

NEAREST = 6
"""TR3D: how many locations are to find a box."""

SCANNET_LEVELS: Mapping[str, int] = {
    **dict.fromkeys(
        ("bed", "sofa", "table", "window", "bookshelf", "counter", "desk", "curtain", "bathtub"), 1
    ),
    **dict.fromkeys(("cabinet", "chair", "door", "picture", "refrigerator", "shower curtain", "toilet"), 0),
    **dict.fromkeys(("sink", "garbage bin"), 0),
}
"""TR3D's published choice of level for the 18 classes of ScanNet's benchmark, of 16 cm (0) and 32 cm (1)."""

CELLS = 3
"""A level is coarse enough for a class that is so many of its voxels across."""


def assign_fcaf3d(
    places: Tensor, levels: Tensor, boxes: Tensor, count: int, inside: int = INSIDE, best: int = BEST
) -> tuple[Tensor, Tensor]:
    """FCAF3D's choice (section 3.3 of the paper; the published code's order of steps).

    A box is found at the coarsest level up to which every level has enough locations inside of it, at the finest
    if none has, by those of the highest centre-ness there. A location that several boxes want goes to the one
    of the smallest volume.

    Args:
        places: locations (N, 3).
        levels: their levels (N,), 0 the finest.
        boxes: true boxes (M, 6).
        count: number of levels.
        inside: locations inside a box that make a level good enough.
        best: most locations that are to find a box.

    Returns:
        The box (N,) of each location, or `NOBODY`; and its centre-ness (N,) in that box, 0 of nobody's.
    """
    if not len(boxes) or not len(places):
        return torch.full_like(levels, NOBODY), places.new_zeros(len(places))
    inner = centreness(places, boxes)  # (N, M), negative outside
    within = inner >= 0
    enough = torch.stack([within[levels == number].sum(0) >= inside for number in range(count)])
    chosen = (enough.int().cumprod(0).sum(0) - 1).clamp(min=0)  # (M,)
    wanted = inner.masked_fill(levels[:, None] != chosen, -1)
    top = wanted.topk(min(best, len(places)), dim=0)
    among = torch.zeros_like(within).scatter_(0, top.indices, top.values >= 0)
    volumes = boxes[:, 3:].prod(1).expand(len(places), -1).masked_fill(~among, torch.inf)
    least, box = volumes.min(1)
    taken = least.isfinite()
    return torch.where(taken, box, NOBODY), torch.where(taken, inner.gather(1, box[:, None])[:, 0], 0)


def centreness(places: Tensor, boxes: Tensor) -> Tensor:
    """How near places (N, 3) are to the centres of boxes (M, 6): (N, M), 1 there, 0 at a face, -1 outside.

    Source: FCAF3D, equation 5: the root of the product, over the axes, of the smaller over the larger
    distance to the two faces.
    """
    low, high = (side[None] for side in edges(boxes).chunk(2, dim=1))
    below, above = places[:, None] - low, high - places[:, None]  # (N, M, 3)
    smaller, larger = torch.minimum(below, above), torch.maximum(below, above)
    value = (smaller.clamp(min=0) / larger.clamp(min=1e-9)).prod(2).sqrt()
    return value.where((smaller > 0).all(2), -1)


def assign_tr3d(
    places: Tensor, levels: Tensor, boxes: Tensor, box_levels: Tensor, nearest: int = NEAREST
) -> Tensor:
    """TR3D's choice (section 3.2 of the paper): the locations of a box's level that are nearest to its centre.

    A location that is among the nearest of several boxes goes to that whose centre it is nearest to.

    Args:
        places: locations (N, 3).
        levels: their levels (N,).
        boxes: true boxes (M, 6).
        box_levels: the level (M,) of each box, which its class tells.
        nearest: locations that are to find a box.

    Returns:
        The box (N,) of each location, or `NOBODY`.
    """
    if not len(boxes) or not len(places):
        return torch.full_like(levels, NOBODY)
    distances = (places[:, None] - boxes[:, :3]).square().sum(2)  # (N, M)
    wanted = distances.masked_fill(levels[:, None] != box_levels, torch.inf)
    top = wanted.topk(min(nearest, len(places)), dim=0, largest=False)
    among = torch.zeros_like(wanted, dtype=torch.bool).scatter_(0, top.indices, top.values.isfinite())
    least, box = distances.masked_fill(~among, torch.inf).min(1)
    return torch.where(least.isfinite(), box, NOBODY)


def class_levels(classes: Sequence[str], sizes: Tensor, spacings: Sequence[float]) -> tuple[int, ...]:
    """The level at which TR3D finds each class: the coarsest whose voxels are fine enough for things of its size.

    A thing's size is the longer of its horizontal sides. ScanNet's 18 classes have the published table.

    Args:
        classes: their names.
        sizes: the mean size (C, 3) of each class's true boxes.
        spacings: edge of a voxel of each level, the finest first, in the unit of the sizes.
    """
    if {*classes} == {*SCANNET_LEVELS} and len(spacings) == 2:
        return tuple(SCANNET_LEVELS[name] for name in classes)
    across = sizes[:, :2].amax(1).tolist()
    return tuple(max(sum(side >= CELLS * spacing for spacing in spacings) - 1, 0) for side in across)
