"""Crops a box out of a point cloud and resamples it to a fixed number of points."""

from collections.abc import Sequence

import torch
from torch import Tensor

from octavius.boxes3d import PLAIN, box_error, edges

MARGIN = 0.05
"""Metres added to a box on every side: annotated and detected boxes tend to cut off the object's surface."""

FEWEST = 32
"""Fewest points of a usable crop: one group of Point-BERT's tokenizer."""


def inside(points: Tensor, box: Sequence[float] | Tensor, margin: float = MARGIN) -> Tensor:
    """Indices of the points in a box enlarged by a margin.

    Args:
        points: (P, 3 or more), beginning with x, y, z.
        box: (6,) centre and size.
        margin: metres added on every side.

    Returns:
        Ascending indices (K,); K may be 0.

    Raises:
        ValueError: the box is invalid, or the margin is negative.
    """
    numbers = [float(value) for value in box]
    said = box_error(numbers) if len(numbers) == PLAIN else f"expected {PLAIN} numbers, found {len(numbers)}"
    if said is not None:
        raise ValueError(f"no box to crop: {said}")
    if not margin >= 0:
        raise ValueError(f"a crop's margin is 0 metres or more, found {margin}")
    low, high = edges(torch.tensor(numbers, dtype=torch.float64)).chunk(2)
    positions = points[:, :3]
    low, high = ((low - margin).to(positions), (high + margin).to(positions))
    return ((positions >= low) & (positions <= high)).all(1).nonzero().squeeze(1)


def crop(
    points: Tensor,
    box: Sequence[float] | Tensor,
    margin: float = MARGIN,
    *,
    count: int,
    fewest: int = FEWEST,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Crops a box out of a cloud and resamples it to `count` points.

    Args:
        points: (P, C), beginning with x, y, z; for example with red, green, blue.
        box: (6,) centre and size, in the frame of the points.
        margin: metres added to the box on every side.
        count: number N of points to return.
        fewest: fewest points in the box; `inside` counts them beforehand.
        generator: random generator; by default a fixed one, so that the same points give the same crop.

    Returns:
        (N, C), in random order; coordinates are neither moved nor scaled.

    Raises:
        ValueError: the box is invalid, `count` is below 1, or the box has fewer points than `fewest`.
    """
    found = inside(points, box, margin)
    if len(found) < max(fewest, 1):
        centre = ", ".join(f"{float(value):.2f}" for value in box[:3])
        raise ValueError(
            f"expected at least {max(fewest, 1)} points in the box at ({centre}), found {len(found)} of "
            f"{len(points)}; leave such a box out, and check that box and cloud are in one frame"
        )
    return resampled(points[found], count, generator)


def resampled(points: Tensor, count: int, generator: torch.Generator | None = None) -> Tensor:
    """Resamples a cloud to `count` points: a random subset, or all points repeated as often as needed.

    Args:
        points: (P, C) with P >= 1.
        count: number N of points to return.
        generator: random generator; by default a fixed one, so that the same P and N give the same indices.

    Returns:
        (N, C).

    Raises:
        ValueError: there is no point, or `count` is below 1.
    """
    if count < 1 or not len(points):
        raise ValueError(f"expected at least 1 point and a count of at least 1, found {len(points)}, {count}")
    generator = torch.Generator().manual_seed(0) if generator is None else generator
    order = torch.randperm(len(points), generator=generator)
    rounds = -(-count // len(points))
    return points[order.repeat(rounds)[:count].to(points.device)]
