"""3D boxes as NumPy arrays or as tensors of torch: corners, edges, volumes and overlaps; of tensors differentiable.

A box is 6 numbers: centre x, y, z and size along x, y, z, in metres with z up. A seventh number is its yaw
about the vertical axis through its centre, in radians, counter-clockwise seen from above. In shapes, `...`
are any leading dimensions; those of two arguments broadcast: `iou3d(first[:, None], second)` compares all
pairs, `iou3d(first, second)` row by row. Negative sizes count as 0. Functions return the kind that they are given.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from reprlib import repr as short
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

A = TypeVar("A", np.ndarray, "Tensor")

PLAIN, TURNED = 6, 7
"""Numbers of an axis-aligned and of a rotated box."""

# Bottom face counter-clockwise seen from above, starting at the smallest x and y; then the top face.
_CORNERS = (
    *((-0.5, -0.5, -0.5), (0.5, -0.5, -0.5), (0.5, 0.5, -0.5), (-0.5, 0.5, -0.5)),
    *((-0.5, -0.5, 0.5), (0.5, -0.5, 0.5), (0.5, 0.5, 0.5), (-0.5, 0.5, 0.5)),
)
CORNER_PAIRS = (
    *((i, (i + 1) % 4) for i in range(4)),  # around the bottom face
    *((4 + i, 4 + (i + 1) % 4) for i in range(4)),  # around the top face
    *((i, i + 4) for i in range(4)),
)
"""The 12 edges of a box as pairs of indices of its `corners`."""

FARTHEST = 1e9
"""Largest coordinate in metres; products of larger ones would overflow single precision."""

# in metres; a side shorter than this along an axis is treated as parallel to the lines across it
_PARALLEL = 1e-9


def stack(boxes: Sequence[Sequence[float]]) -> np.ndarray:
    """Boxes of 6 or 7 numbers as one array, double precision.

    Returns:
        (N, 6), or (N, 7) if any of them is rotated.
    """
    if wrong := [box for box in boxes if len(box) not in (PLAIN, TURNED)]:
        raise ValueError(f"{len(wrong)} of {len(boxes)} boxes: {box_error(wrong[0])}")
    width = max((len(box) for box in boxes), default=PLAIN)
    rows = [[*box, *[0.0] * (width - len(box))] for box in boxes]
    return np.array(rows, np.float64).reshape(len(boxes), width)


def box_error(box: Sequence[float]) -> str | None:
    """Describes what is wrong with a box; None if it is valid.

    >>> box_error((0.0, 0.0, 0.5, 1.0, -1.0, 1.0))
    'its size along y is -1, not above 0'
    """
    if len(box) not in (PLAIN, TURNED):
        return f"a 3D box has {PLAIN} numbers (centre, size) or {TURNED} (and yaw), this one has {len(box)}"
    if not all(abs(value) < math.inf for value in box):
        return f"a number is not finite: {short([*box])}"
    if not all(abs(value) <= FARTHEST for value in box):
        return f"a number is beyond {FARTHEST:g} metres: {short([*box])}"
    for axis, size in zip("xyz", box[3:6], strict=True):
        if size <= 0:
            return f"its size along {axis} is {size:g}, not above 0"
    return None


def edges(boxes: A) -> A:
    """The axis-aligned bounds of each box.

    Args:
        boxes: (..., 6 or 7).

    Returns:
        (..., 6) lowest x, y, z, then highest x, y, z.
    """
    if _width(boxes) == TURNED:
        return _bounds(corners(boxes))
    centre, half = boxes[..., :3], boxes[..., 3:6].clip(min=0) / 2
    return _library(boxes).concatenate([centre - half, centre + half], -1)


def from_edges(rows: A) -> A:
    """Boxes (..., 6) from lowest and highest x, y, z (..., 6)."""
    low, high = rows[..., :3], rows[..., 3:]
    return _library(rows).concatenate([(low + high) / 2, high - low], -1)


def enclosing(points: A) -> A:
    """The axis-aligned bounding box of points, such as 8 corners in any order or all points of an object.

    Args:
        points: (..., P, 3) with P >= 1.

    Returns:
        (..., 6).
    """
    return from_edges(_bounds(points))


def corners(boxes: A) -> A:
    """The 8 corners of each box.

    Args:
        boxes: (..., 6 or 7).

    Returns:
        (..., 8, 3) the bottom face counter-clockwise seen from above, starting at the smallest x and y in the
        box's own frame; then the top face in the same order.
    """
    turned, library = _width(boxes) == TURNED, _library(boxes)
    unit = library.asarray(_CORNERS, dtype=boxes.dtype, device=boxes.device)
    points = unit * boxes[..., None, 3:6].clip(min=0)
    if turned:
        points = library.concatenate([_turn(points[..., :2], boxes[..., 6]), points[..., 2:]], -1)
    return points + boxes[..., None, :3]


def volume(boxes: A) -> A:
    """Volumes (...) of boxes (..., 6 or 7)."""
    return boxes[..., 3:6].clip(min=0).prod(-1)


def overlap_bev(first: A, second: A) -> A:
    """Intersection area of two boxes in bird's-eye view.

    In the frame of the second box, a rectangle about the origin, every point of the first one's outline is
    projected to the nearest point of the rectangle. The projection crosses no interior point of the
    rectangle, so the projected outline encloses exactly the intersection. It is straight between the points
    where a side crosses a line through the rectangle's edges, so these points give its area (shoelace
    formula).

    Args:
        first: (..., 6 or 7).
        second: (..., 6 or 7).

    Returns:
        (...).
    """
    if _width(first) == _width(second) == PLAIN:
        return _span(first, second, 0) * _span(first, second, 1)
    library = _library(first)
    first, second = (_with_yaw(boxes) for boxes in (first, second))
    half = second[..., None, 3:5].clip(min=0) / 2
    outline = corners(first)[..., :4, :2] - second[..., None, :2]
    outline = _turn(outline, -second[..., 6])
    side = library.roll(outline, -1, -2) - outline
    parallel = abs(side) < _PARALLEL
    safe = library.where(parallel, library.ones_like(side), side)
    crossings = [
        library.where(parallel, library.zeros_like(side), (half * sign - outline) / safe) for sign in (-1, 1)
    ]
    shares = library.concatenate(crossings, -1).clip(0, 1)
    shares = np.sort(shares, -1) if library is np else shares.sort(-1).values
    # the start, then up to 4 crossings: 5 points per side
    shares = library.concatenate([library.zeros_like(shares[..., :1]), shares], -1)
    path = outline[..., None, :] + shares[..., None] * side[..., None, :]
    path = path.reshape(*path.shape[:-3], path.shape[-3] * path.shape[-2], 2)
    path = library.minimum(library.maximum(path, -half), half)
    ahead = library.roll(path, -1, -2)
    return ((path[..., 0] * ahead[..., 1] - path[..., 1] * ahead[..., 0]).sum(-1) / 2).clip(min=0)


def iou_bev(first: A, second: A) -> A:
    """Intersection over union (...) in bird's-eye view, in 0..1; 0 if both are empty."""
    areas = [boxes[..., 3:5].clip(min=0).prod(-1) for boxes in (first, second)]
    shared = overlap_bev(first, second)
    return _ratio(shared, areas[0] + areas[1] - shared)


def iou3d(first: A, second: A) -> A:
    """Intersection over union (...) of boxes (..., 6 or 7), in 0..1; 0 if both are empty."""
    shared = overlap_bev(first, second) * _span(first, second, 2)
    return _ratio(shared, volume(first) + volume(second) - shared)


def giou3d(first: A, second: A) -> A:
    """Generalized IoU (...), in -1..1: IoU minus the empty share of the axis-aligned hull of both."""
    shared = overlap_bev(first, second) * _span(first, second, 2)
    union = volume(first) + volume(second) - shared
    one, other = edges(first), edges(second)
    library = _library(first)
    low, high = library.minimum(one, other)[..., :3], library.maximum(one, other)[..., 3:]
    hull = (high - low).prod(-1)
    return _ratio(shared, union) - _ratio((hull - union).clip(min=0), hull)


def _library(boxes: np.ndarray | Tensor) -> Any:
    """`numpy` or `torch`, in which the functions used here have the same names and order of arguments."""
    if isinstance(boxes, np.ndarray | np.generic):
        return np
    import torch  # slow, and whoever has a tensor has imported it

    return torch


def _bounds(points: A) -> A:
    """Lowest and highest x, y, z (..., 6) of points (..., P, 3)."""
    library = _library(points)
    return library.concatenate([library.amin(points, -2), library.amax(points, -2)], -1)


def _width(boxes: np.ndarray | Tensor) -> int:
    """Numbers per box.

    Raises:
        ValueError: neither 6 nor 7.
    """
    width = boxes.shape[-1] if boxes.ndim else 0
    if width not in (PLAIN, TURNED):
        raise ValueError(
            f"3D boxes are rows of {PLAIN} numbers (centre, size) or {TURNED} (and yaw), "
            f"but these have shape {tuple(boxes.shape)}; 8 corners become boxes with enclosing"
        )
    return width


def _with_yaw(boxes: A) -> A:
    """Boxes (..., 7), with a yaw of 0 where they have none."""
    if _width(boxes) == TURNED:
        return boxes
    library = _library(boxes)
    return library.concatenate([boxes, library.zeros_like(boxes[..., :1])], -1)


def _turn(points: A, yaw: A) -> A:
    """Points (..., P, 2) rotated about the origin by angles (...)."""
    library = _library(points)
    cos, sin = library.cos(yaw)[..., None], library.sin(yaw)[..., None]
    x, y = points[..., 0], points[..., 1]
    return library.stack([cos * x - sin * y, sin * x + cos * y], -1)


def _span(first: A, second: A, axis: int) -> A:
    """Length of the intersection along an axis about which neither box is rotated."""
    library = _library(first)
    ends = [(boxes[..., axis], boxes[..., axis + 3].clip(min=0) / 2) for boxes in (first, second)]
    low = library.maximum(*(centre - half for centre, half in ends))
    high = library.minimum(*(centre + half for centre, half in ends))
    return (high - low).clip(min=0)


def _ratio(part: A, whole: A) -> A:
    """Ratio part / whole, at most 1; 0 if both are 0."""
    return (part / whole.clip(min=_library(whole).finfo(whole.dtype).tiny)).clip(max=1)
