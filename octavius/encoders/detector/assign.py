"""Assignment of ground-truth boxes to locations, in FCAF3D's and in TR3D's way."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from octavius.boxes3d import edges

UNASSIGNED = -1
"""Index that stands for no box: no ground-truth box is assigned to the location."""

INSIDE, BEST = 27, 18
"""FCAF3D: locations that a level needs inside a box, and locations assigned to a box."""

NEAREST = 6
"""TR3D: locations assigned to a box."""

SCANNET_LEVELS: Mapping[str, int] = {
    **dict.fromkeys(
        ("bed", "sofa", "table", "window", "bookshelf", "counter", "desk", "curtain", "bathtub"), 1
    ),
    **dict.fromkeys(("cabinet", "chair", "door", "picture", "refrigerator", "shower curtain", "toilet"), 0),
    **dict.fromkeys(("sink", "garbage bin"), 0),
}
"""TR3D's published level of each of ScanNet's 18 classes: 0 has voxels of 16 cm, 1 of 32 cm."""

CELLS = 3
"""A class is assigned to a level if its objects are at least so many of the level's voxels across."""


def assign_fcaf3d(
    positions: Tensor, levels: Tensor, boxes: Tensor, count: int, inside: int = INSIDE, best: int = BEST
) -> tuple[Tensor, Tensor]:
    """FCAF3D's assignment (section 3.3 of the paper, with the published code's order of steps).

    A box is assigned to the coarsest level up to which all levels have enough locations inside the box (the
    finest if none has), and there to the locations with the highest centre-ness. A location assigned to
    several boxes keeps the one with the smallest volume.

    Args:
        positions: (N, 3) locations.
        levels: (N,) level of each location, 0 for the finest.
        boxes: (M, 6) ground-truth boxes.
        count: number of levels.
        inside: locations inside a box that a level needs.
        best: largest number of locations assigned to a box.

    Returns:
        The box of each location (N,), or `UNASSIGNED`; and its centre-ness in that box (N,), 0 if unassigned.
    """
    if not len(boxes) or not len(positions):
        return torch.full_like(levels, UNASSIGNED), positions.new_zeros(len(positions))
    inner = centreness(positions, boxes)  # (N, M), negative outside
    within = inner >= 0
    enough = torch.stack([within[levels == number].sum(0) >= inside for number in range(count)])
    # cumprod: a level counts only if all finer ones have enough locations as well.
    chosen = (enough.int().cumprod(0).sum(0) - 1).clamp(min=0)  # (M,)
    wanted = inner.masked_fill(levels[:, None] != chosen, -1)
    top = wanted.topk(min(best, len(positions)), dim=0)
    among = torch.zeros_like(within).scatter_(0, top.indices, top.values >= 0)
    volumes = boxes[:, 3:].prod(1).expand(len(positions), -1).masked_fill(~among, torch.inf)
    least, box = volumes.min(1)
    taken = least.isfinite()
    return torch.where(taken, box, UNASSIGNED), torch.where(taken, inner.gather(1, box[:, None])[:, 0], 0)


def centreness(positions: Tensor, boxes: Tensor) -> Tensor:
    """Centre-ness (N, M) of locations (N, 3) in boxes (M, 6): 1 at the centre, 0 at a face, -1 outside.

    FCAF3D, equation 5: the square root of the product over the axes of the smaller over the larger distance
    to the two faces.
    """
    low, high = (side[None] for side in edges(boxes).chunk(2, dim=1))
    below, above = positions[:, None] - low, high - positions[:, None]  # (N, M, 3)
    smaller, larger = torch.minimum(below, above), torch.maximum(below, above)
    value = (smaller.clamp(min=0) / larger.clamp(min=1e-9)).prod(2).sqrt()
    return value.where((smaller > 0).all(2), -1)


def assign_tr3d(
    positions: Tensor, levels: Tensor, boxes: Tensor, box_levels: Tensor, nearest: int = NEAREST
) -> Tensor:
    """TR3D's assignment (section 3.2 of the paper): the locations of the box's level nearest to its centre.

    A location assigned to several boxes keeps the one whose centre is nearest.

    Args:
        positions: (N, 3) locations.
        levels: (N,) level of each location.
        boxes: (M, 6) ground-truth boxes.
        box_levels: (M,) level of each box, by its class.
        nearest: number of locations assigned to a box.

    Returns:
        The box of each location (N,), or `UNASSIGNED`.
    """
    if not len(boxes) or not len(positions):
        return torch.full_like(levels, UNASSIGNED)
    distances = (positions[:, None] - boxes[:, :3]).square().sum(2)  # (N, M)
    wanted = distances.masked_fill(levels[:, None] != box_levels, torch.inf)
    top = wanted.topk(min(nearest, len(positions)), dim=0, largest=False)
    among = torch.zeros_like(wanted, dtype=torch.bool).scatter_(0, top.indices, top.values.isfinite())
    least, box = distances.masked_fill(~among, torch.inf).min(1)
    return torch.where(least.isfinite(), box, UNASSIGNED)


def class_levels(classes: Sequence[str], sizes: Tensor, spacings: Sequence[float]) -> tuple[int, ...]:
    """TR3D's level for each class: the coarsest whose voxels are small enough for objects of its size.

    The size of an object is the longer of its horizontal sides. ScanNet's 18 classes have the published
    levels.

    Args:
        classes: class names.
        sizes: (C, 3) mean size of each class's ground-truth boxes.
        spacings: voxel edge of each level, the finest first, in the unit of the sizes.
    """
    if {*classes} == {*SCANNET_LEVELS} and len(spacings) == 2:
        return tuple(SCANNET_LEVELS[name] for name in classes)
    across = sizes[:, :2].amax(1).tolist()
    return tuple(max(sum(side >= CELLS * spacing for spacing in spacings) - 1, 0) for side in across)
