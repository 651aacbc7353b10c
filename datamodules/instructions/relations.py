"""Spatial predicates on boxes: distance, shared footprint, and the thresholds of relations in texts."""

import math
from typing import TypeAlias

Edges: TypeAlias = tuple[float, float, float, float, float, float]
"""A box by its lowest and highest corner: x1, y1, z1, x2, y2, z2 in metres."""

TOUCH, CARRIED = 0.15, 0.3
"""`on`: largest gap in metres, smallest shared fraction of the smaller footprint."""
LEAD = 0.2
"""`closest`, `farthest`: smallest lead over the runner-up in metres."""
NEAR = 0.5
"""`next`: largest gap in metres."""


def gap(first: Edges, second: Edges) -> float:
    """Distance of two boxes in metres; 0 if they touch."""
    sides = (max(first[i] - second[i + 3], second[i] - first[i + 3], 0.0) for i in range(3))
    return math.hypot(*sides)


def footprint_shared(first: Edges, second: Edges) -> float:
    """Common footprint over the smaller of the two."""
    x = max(0.0, min(first[3], second[3]) - max(first[0], second[0]))
    y = max(0.0, min(first[4], second[4]) - max(first[1], second[1]))
    return x * y / min(footprint(first), footprint(second))


def footprint(box: Edges) -> float:
    """Area of a box seen from above, in square metres."""
    return (box[3] - box[0]) * (box[4] - box[1])
