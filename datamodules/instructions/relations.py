"""Spatial predicates on boxes: distance, overlap of footprints, and the thresholds of relations in texts."""

import math
from typing import TypeAlias

MinMaxBox: TypeAlias = tuple[float, float, float, float, float, float]
"""A box by its lowest and highest corner: x1, y1, z1, x2, y2, z2 in metres; unlike `octavius.boxes.Box3D`."""

CONTACT_TOLERANCE = 0.15
"""`on`: maximum vertical gap in metres."""
MIN_SUPPORT_OVERLAP = 0.3
"""`on`: minimum `footprint_overlap`."""
MIN_MARGIN = 0.2
"""`closest`, `farthest`: minimum difference in distance to the runner-up in metres."""
MAX_NEXT_TO_GAP = 0.5
"""`next`: maximum gap in metres."""


def gap(first: MinMaxBox, second: MinMaxBox) -> float:
    """Distance of two boxes in metres; 0 if they touch."""
    sides = (max(first[i] - second[i + 3], second[i] - first[i + 3], 0.0) for i in range(3))
    return math.hypot(*sides)


def footprint_overlap(first: MinMaxBox, second: MinMaxBox) -> float:
    """Area shared by two footprints, as a fraction of the smaller footprint."""
    x = max(0.0, min(first[3], second[3]) - max(first[0], second[0]))
    y = max(0.0, min(first[4], second[4]) - max(first[1], second[1]))
    return x * y / min(footprint_area(first), footprint_area(second))


def footprint_area(box: MinMaxBox) -> float:
    """Area of a box seen from above, in square metres."""
    return (box[3] - box[0]) * (box[4] - box[1])
