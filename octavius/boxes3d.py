"""3D boxes as tensors: corners, edges, volumes and overlaps, all differentiable.

A box is 6 numbers: centre x, y, z and size along x, y, z, in metres with z up. A seventh number is its yaw
about the vertical axis through its centre, in radians, counter-clockwise seen from above. In shapes, `...`
are any leading dimensions; those of two arguments broadcast: `iou3d(first[:, None], second)` compares all
pairs, `iou3d(first, second)` row by row. Negative sizes count as 0.
"""

import math
from collections.abc import Sequence
from reprlib import repr as short

import torch
from torch import Tensor
from torch.nn.functional import pad

PLAIN, TURNED = 6, 7
"""Numbers of an axis-aligned and of a rotated box."""

# Bottom face counter-clockwise seen from above, starting at the smallest x and y; then the top face.
_CORNERS = (
    *((-0.5, -0.5, -0.5), (0.5, -0.5, -0.5), (0.5, 0.5, -0.5), (-0.5, 0.5, -0.5)),
    *((-0.5, -0.5, 0.5), (0.5, -0.5, 0.5), (0.5, 0.5, 0.5), (-0.5, 0.5, 0.5)),
)
FARTHEST = 1e9
"""Largest coordinate in metres; products of larger ones would overflow single precision."""

# in metres; a side shorter than this along an axis is treated as parallel to the lines across it
_PARALLEL = 1e-9


def stack(boxes: Sequence[Sequence[float]]) -> Tensor:
    """Boxes of 6 or 7 numbers as one tensor, double precision.

    Returns:
        (N, 6), or (N, 7) if any of them is rotated.
    """
    if wrong := [box for box in boxes if len(box) not in (PLAIN, TURNED)]:
        raise ValueError(f"{len(wrong)} of {len(boxes)} boxes: {box_error(wrong[0])}")
    width = max((len(box) for box in boxes), default=PLAIN)
    rows = [[*box, *[0.0] * (width - len(box))] for box in boxes]
    return torch.tensor(rows, dtype=torch.float64).reshape(len(boxes), width)


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


def edges(boxes: Tensor) -> Tensor:
    """The axis-aligned bounds of each box.

    Args:
        boxes: (..., 6 or 7).

    Returns:
        (..., 6) lowest x, y, z, then highest x, y, z.
    """
    if _width(boxes) == TURNED:
        points = corners(boxes)
        return torch.cat([points.amin(-2), points.amax(-2)], dim=-1)
    centre, half = boxes[..., :3], boxes[..., 3:6].clamp(min=0) / 2
    return torch.cat([centre - half, centre + half], dim=-1)


def from_edges(rows: Tensor) -> Tensor:
    """Boxes (..., 6) from lowest and highest x, y, z (..., 6)."""
    low, high = rows.chunk(2, dim=-1)
    return torch.cat([(low + high) / 2, high - low], dim=-1)


def enclosing(points: Tensor) -> Tensor:
    """The axis-aligned bounding box of points, such as 8 corners in any order or all points of an object.

    Args:
        points: (..., P, 3) with P >= 1.

    Returns:
        (..., 6).
    """
    return from_edges(torch.cat([points.amin(-2), points.amax(-2)], dim=-1))


def corners(boxes: Tensor) -> Tensor:
    """The 8 corners of each box.

    Args:
        boxes: (..., 6 or 7).

    Returns:
        (..., 8, 3) the bottom face counter-clockwise seen from above, starting at the smallest x and y in the
        box's own frame; then the top face in the same order.
    """
    turned = _width(boxes) == TURNED
    points = boxes.new_tensor(_CORNERS) * boxes[..., None, 3:6].clamp(min=0)
    if turned:
        points = torch.cat([_turn(points[..., :2], boxes[..., 6]), points[..., 2:]], dim=-1)
    return points + boxes[..., None, :3]


def volume(boxes: Tensor) -> Tensor:
    """Volumes (...) of boxes (..., 6 or 7)."""
    return boxes[..., 3:6].clamp(min=0).prod(-1)


def overlap_bev(first: Tensor, second: Tensor) -> Tensor:
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
    first, second = (pad(boxes, (0, TURNED - boxes.shape[-1])) for boxes in (first, second))
    half = second[..., None, 3:5].clamp(min=0) / 2
    outline = corners(first)[..., :4, :2] - second[..., None, :2]
    outline = _turn(outline, -second[..., 6])
    side = outline.roll(-1, -2) - outline
    parallel = side.abs() < _PARALLEL
    safe = side.where(~parallel, torch.ones_like(side))
    shares = torch.cat([((half * sign - outline) / safe).where(~parallel, 0) for sign in (-1, 1)], dim=-1)
    # the start, then up to 4 crossings: 5 points per side
    shares = pad(shares.clamp(0, 1).sort(-1).values, (1, 0))
    path = outline[..., None, :] + shares[..., None] * side[..., None, :]
    path = torch.minimum(torch.maximum(path.flatten(-3, -2), -half), half)
    ahead = path.roll(-1, -2)
    return ((path[..., 0] * ahead[..., 1] - path[..., 1] * ahead[..., 0]).sum(-1) / 2).clamp(min=0)


def iou_bev(first: Tensor, second: Tensor) -> Tensor:
    """Intersection over union (...) in bird's-eye view, in 0..1; 0 if both are empty."""
    areas = [boxes[..., 3:5].clamp(min=0).prod(-1) for boxes in (first, second)]
    shared = overlap_bev(first, second)
    return _ratio(shared, areas[0] + areas[1] - shared)


def iou3d(first: Tensor, second: Tensor) -> Tensor:
    """Intersection over union (...) of boxes (..., 6 or 7), in 0..1; 0 if both are empty."""
    shared = overlap_bev(first, second) * _span(first, second, 2)
    return _ratio(shared, volume(first) + volume(second) - shared)


def giou3d(first: Tensor, second: Tensor) -> Tensor:
    """Generalized IoU (...), in -1..1: IoU minus the empty share of the axis-aligned hull of both."""
    shared = overlap_bev(first, second) * _span(first, second, 2)
    union = volume(first) + volume(second) - shared
    one, other = edges(first), edges(second)
    low, high = torch.minimum(one, other)[..., :3], torch.maximum(one, other)[..., 3:]
    hull = (high - low).prod(-1)
    return _ratio(shared, union) - _ratio((hull - union).clamp(min=0), hull)


def _width(boxes: Tensor) -> int:
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


def _turn(points: Tensor, yaw: Tensor) -> Tensor:
    """Points (..., P, 2) rotated about the origin by angles (...)."""
    cos, sin = yaw.cos()[..., None], yaw.sin()[..., None]
    x, y = points.unbind(-1)
    return torch.stack([cos * x - sin * y, sin * x + cos * y], dim=-1)


def _span(first: Tensor, second: Tensor, axis: int) -> Tensor:
    """Length of the intersection along an axis about which neither box is rotated."""
    ends = [(boxes[..., axis], boxes[..., axis + 3].clamp(min=0) / 2) for boxes in (first, second)]
    low = torch.maximum(*(centre - half for centre, half in ends))
    high = torch.minimum(*(centre + half for centre, half in ends))
    return (high - low).clamp(min=0)


def _ratio(part: Tensor, whole: Tensor) -> Tensor:
    """Ratio part / whole, at most 1; 0 if both are 0."""
    return (part / whole.clamp(min=torch.finfo(whole.dtype).tiny)).clamp(max=1)
