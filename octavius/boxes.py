"""Axis-aligned 2D boxes in images, in the format xyxy normalised to [0, 1]; and the type of 3D boxes."""

from collections.abc import Sequence
from typing import TypeAlias

Box: TypeAlias = tuple[float, float, float, float]
"""Box in an image: x1, y1, x2, y2 as fractions of the image size."""
Box3D: TypeAlias = tuple[float, float, float, float, float, float]
"""Box in a point cloud: centre x, y, z and size along x, y, z in metres, z up; see `octavius.boxes3d`."""


def area(box: Box) -> float:
    """Area of a box; 0 if it is empty or reversed."""
    x1, y1, x2, y2 = box
    return max(0.0, x2 - x1) * max(0.0, y2 - y1)


def iou(first: Box, second: Box) -> float:
    """Intersection over union of two boxes, in 0..1; 0 if both are empty."""
    intersection = (
        max(first[0], second[0]),
        max(first[1], second[1]),
        min(first[2], second[2]),
        min(first[3], second[3]),
    )
    intersection_area = area(intersection)
    union = area(first) + area(second) - intersection_area
    return intersection_area / union if union > 0 else 0.0


def clip(box: Box) -> Box:
    """The part of a box inside the image; an empty box on the border if the box lies outside.

    >>> clip((-0.1, 0.2, 0.5, 1.3))
    (0.0, 0.2, 0.5, 1.0)
    """
    x1, y1, x2, y2 = (min(1.0, max(0.0, value)) for value in box)
    return x1, y1, x2, y2


def normalise(box: Sequence[float], width: float, height: float) -> Box:
    """Converts pixel coordinates (x1, y1, x2, y2) to fractions of the image size."""
    x1, y1, x2, y2 = box
    return x1 / width, y1 / height, x2 / width, y2 / height


def box_error(box: Sequence[float], tolerance: float = 1e-3) -> str | None:
    """Describes what is wrong with a normalised box; None if it is valid.

    Coordinates may lie outside [0, 1] by at most `tolerance`.

    >>> box_error((0.6, 0.1, 0.2, 0.5))
    'x1 = 0.6 is not left of x2 = 0.2'
    """
    if len(box) != 4:
        return f"a box has 4 numbers, this one has {len(box)}"
    x1, y1, x2, y2 = box
    if not all(-tolerance <= value <= 1 + tolerance for value in box):  # also catches NaN
        return f"box coordinates outside 0..1: {[round(float(v), 4) for v in box]}"
    if x1 >= x2:
        return f"x1 = {x1:g} is not left of x2 = {x2:g}"
    if y1 >= y2:
        return f"y1 = {y1:g} is not above y2 = {y2:g}"
    return None
