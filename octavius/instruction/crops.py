"""The points of a scene and a box in it come in, as many points as an encoder of objects takes go out."""

from collections.abc import Sequence

import torch
from torch import Tensor

from octavius.boxes3d import PLAIN, edges, problem

MARGIN = 0.05
"""Metres by which a box is enlarged on every side: boxes of annotators and detectors cut what they hold."""

FEWEST = 32
"""Points below which a crop shows too little to be told: one group of Point-BERT's tokeniser."""


def inside(points: Tensor, box: Sequence[float] | Tensor, margin: float = MARGIN) -> Tensor:
    """The points that lie in a box enlarged by a margin.

    Args:
        points: (P, 3 or more), the first three numbers a place.
        box: centre and size, 6 numbers.
        margin: metres added on every side.

    Returns:
        Their indices (K,), ascending; K may be 0.

    Raises:
        ValueError: no box, or a margin below 0.
    """
    numbers = [float(value) for value in box]
    said = problem(numbers) if len(numbers) == PLAIN else f"expected {PLAIN} numbers, found {len(numbers)}"
    if said is not None:
        raise ValueError(f"no box to crop: {said}")
    if not margin >= 0:
        raise ValueError(f"a crop's margin is 0 metres or more, found {margin}")
    low, high = edges(torch.tensor(numbers, dtype=torch.float64)).chunk(2)
    places = points[:, :3]
    low, high = ((low - margin).to(places), (high + margin).to(places))
    return ((places >= low) & (places <= high)).all(1).nonzero().squeeze(1)


def crop(
    points: Tensor,
    box: Sequence[float] | Tensor,
    margin: float = MARGIN,
    *,
    count: int,
    fewest: int = FEWEST,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Cuts what lies in a box out of a cloud, and brings it to a fixed number of points.

    Of more points some are drawn at random, of fewer all are taken, and then once more until there are enough.

    Args:
        points: (P, C), the first three numbers a place, such as x, y, z, red, green, blue.
        box: centre and size, 6 numbers, in the frame of the points.
        margin: metres added to the box on every side.
        count: N, how many points to give.
        fewest: fewer points inside than this are refused; `inside` counts them beforehand.
        generator: draws the points; without it the choice is the same for the same points, always.

    Returns:
        (N, C), in no particular order; places as they were, neither moved nor scaled.

    Raises:
        ValueError: no box, a count below 1, or fewer points inside than `fewest`.
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
    """A fixed number of points of a cloud: some drawn without repetition, or all of them and then once more.

    Args:
        points: (P, C) with at least one point.
        count: N.
        generator: draws them; without it the choice is the same for the same number of points, always.

    Returns:
        (N, C).
    """
    if count < 1 or not len(points):
        raise ValueError(f"expected at least 1 point and a count of at least 1, found {len(points)}, {count}")
    generator = torch.Generator().manual_seed(0) if generator is None else generator
    order = torch.randperm(len(points), generator=generator)
    rounds = -(-count // len(points))
    return points[order.repeat(rounds)[:count].to(points.device)]
