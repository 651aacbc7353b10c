"""Overlaps of 3D boxes equal clipped polygons, counted cells, and Monte Carlo points."""

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from octavius.boxes3d import (
    box_error,
    corners,
    edges,
    enclosing,
    from_edges,
    giou3d,
    iou3d,
    iou_bev,
    overlap_bev,
    stack,
    volume,
)

Point = tuple[float, float]
Row = tuple[float, ...]
CELLS = 5

centres = st.floats(-2, 2).map(lambda value: round(value, 3))
sizes = st.floats(0.05, 3).map(lambda value: round(value, 3))
yaws = st.sampled_from([0.0, math.pi / 2, -math.pi / 4, math.pi]) | st.floats(-7, 7)
plain = st.tuples(centres, centres, centres, sizes, sizes, sizes)
turned = st.tuples(centres, centres, centres, sizes, sizes, sizes, yaws)
grid = st.tuples(*[st.integers(0, CELLS)] * 6)
tables = st.lists(turned, min_size=1, max_size=4).map(stack)


def row(*numbers: float) -> Tensor:
    return torch.tensor(numbers, dtype=torch.float64)


def footprint(box: Row) -> list[Point]:
    """The four corners of a box seen from above, counter-clockwise."""
    x, y, _, dx, dy, _, yaw = box
    ends = [(-dx / 2, -dy / 2), (dx / 2, -dy / 2), (dx / 2, dy / 2), (-dx / 2, dy / 2)]
    cos, sin = math.cos(yaw), math.sin(yaw)
    return [(x + cos * a - sin * b, y + sin * a + cos * b) for a, b in ends]


def left_of(point: Point, start: Point, end: Point) -> float:
    """Twice the area of a triangle, above zero when the point is left of the line."""
    return (end[0] - start[0]) * (point[1] - start[1]) - (end[1] - start[1]) * (point[0] - start[0])


def cut(polygon: list[Point], start: Point, end: Point) -> list[Point]:
    """The part of a polygon left of a line (Sutherland and Hodgman's step)."""
    kept = []
    for here, ahead in zip(polygon, polygon[1:] + polygon[:1], strict=True):
        one, other = left_of(here, start, end), left_of(ahead, start, end)
        if one >= 0:
            kept.append(here)
        if (one > 0 > other) or (one < 0 < other):
            share = one / (one - other)
            kept.append((here[0] + share * (ahead[0] - here[0]), here[1] + share * (ahead[1] - here[1])))
    return kept


def area(polygon: list[Point]) -> float:
    pairs = zip(polygon, polygon[1:] + polygon[:1], strict=True)
    return sum(a[0] * b[1] - a[1] * b[0] for a, b in pairs) / 2


def slow_overlap(first: Row, second: Row) -> float:
    """The area that two boxes share seen from above, one line after the other."""
    polygon, outline = footprint(first), footprint(second)
    for start, end in zip(outline, outline[1:] + outline[:1], strict=True):
        polygon = cut(polygon, start, end) if polygon else []
    return area(polygon) if polygon else 0.0


def slow_iou3d(first: Row, second: Row) -> tuple[float, float]:
    """IoU, and the empty share of the axis-aligned box about both."""
    (low, high), (lowest, highest) = ((box[2] - box[5] / 2, box[2] + box[5] / 2) for box in (first, second))
    shared = slow_overlap(first, second) * max(0.0, min(high, highest) - max(low, lowest))
    union = math.prod(first[3:6]) + math.prod(second[3:6]) - shared
    xs, ys = zip(*footprint(first), *footprint(second), strict=True)
    hull = (max(xs) - min(xs)) * (max(ys) - min(ys)) * (max(high, highest) - min(low, lowest))
    return shared / union, (hull - union) / hull


@given(turned, turned)
def test_overlaps_equal_polygons_cut_line_by_line(first: Row, second: Row) -> None:
    one, other = row(*first), row(*second)
    shared = slow_overlap(first, second)
    assert overlap_bev(one, other).item() == pytest.approx(shared, abs=1e-8)
    union = first[3] * first[4] + second[3] * second[4] - shared
    assert iou_bev(one, other).item() == pytest.approx(shared / union, abs=1e-7)
    expected, empty = slow_iou3d(first, second)
    assert iou3d(one, other).item() == pytest.approx(expected, abs=1e-7)
    assert giou3d(one, other).item() == pytest.approx(expected - empty, abs=1e-7)


def test_overlap_equals_the_share_of_thrown_points() -> None:
    generator = torch.Generator().manual_seed(0)
    first, second = row(0.3, -0.2, 0.1, 2.0, 1.0, 1.5, 0.6), row(0.0, 0.1, 0.4, 1.2, 1.8, 1.0, -0.4)
    points = torch.rand(200_000, 3, generator=generator, dtype=torch.float64) * 4 - 2

    def inside(box: Tensor) -> Tensor:
        moved = points - box[:3]
        turn = torch.stack(
            [torch.stack([box[6].cos(), box[6].sin()]), torch.stack([-box[6].sin(), box[6].cos()])]
        )
        return ((moved[:, :2] @ turn.T).abs() <= box[3:5] / 2).all(1) & (moved[:, 2].abs() <= box[5] / 2)

    one, other = inside(first), inside(second)
    thrown = (one & other).sum() / (one | other).sum()
    assert iou3d(first, second).item() == pytest.approx(thrown.item(), abs=0.01)


@given(grid, grid)
def test_axis_aligned_boxes_equal_counted_cells(first: tuple[int, ...], second: tuple[int, ...]) -> None:
    def cells(ends: tuple[int, ...]) -> set[tuple[int, int, int]]:
        spans = [range(min(ends[i], ends[i + 3]), max(ends[i], ends[i + 3])) for i in range(3)]
        return {(x, y, z) for x in spans[0] for y in spans[1] for z in spans[2]}

    def box(ends: tuple[int, ...]) -> Tensor:
        low, high = ([pick(ends[i], ends[i + 3]) for i in range(3)] for pick in (min, max))
        return from_edges(row(*low, *high))

    inside, other = cells(first), cells(second)
    union = len(inside | other)
    assert volume(box(first)).item() == len(inside)
    assert iou3d(box(first), box(second)).item() == pytest.approx(len(inside & other) / union if union else 0)


@given(plain, plain)
def test_a_yaw_of_zero_changes_nothing(first: Row, second: Row) -> None:
    one, other = row(*first), row(*second)
    for overlap in (iou3d, iou_bev, giou3d):
        expected = overlap(one, other).item()
        assert overlap(row(*first, 0), row(*second, 0)).item() == pytest.approx(expected, abs=1e-9)
        assert overlap(row(*first, 0), other).item() == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("overlap", [iou3d, iou_bev, giou3d])
@given(first=turned, second=turned)
def test_overlaps_are_symmetric_and_in_range(
    overlap: Callable[[Tensor, Tensor], Tensor], first: Row, second: Row
) -> None:
    one, other = row(*first), row(*second)
    value = overlap(one, other).item()
    assert overlap(other, one).item() == pytest.approx(value, abs=1e-8)
    assert (-1.0 if overlap is giou3d else 0.0) <= value <= 1.0
    filled = volume(one) / (edges(one)[3:] - edges(one)[:3]).prod() if overlap is giou3d else 1.0
    assert overlap(one, one).item() == pytest.approx(float(filled), abs=1e-6)


@given(turned, turned, yaws, st.tuples(*[st.floats(-20, 20)] * 3))
def test_moving_both_boxes_alike_changes_nothing(
    first: Row, second: Row, angle: float, shift: tuple[float, float, float]
) -> None:
    def moved(box: Row) -> Tensor:
        x, y, z, *rest = box
        cos, sin = math.cos(angle), math.sin(angle)
        there = (cos * x - sin * y + shift[0], sin * x + cos * y + shift[1], z + shift[2])
        return row(*there, *rest[:3], rest[3] + angle)

    for overlap in (iou3d, iou_bev):
        expected = overlap(row(*first), row(*second)).item()
        assert overlap(moved(first), moved(second)).item() == pytest.approx(expected, abs=1e-7)


@given(turned, turned, st.sampled_from([0, 1, 2]))
def test_boxes_apart_share_nothing_and_giou_tells_how_far(first: Row, second: Row, axis: int) -> None:
    one, other = row(*first), row(*second)
    reach = sum(math.hypot(*box[3:6]) for box in (first, second)) / 2
    near, far = other.clone(), other.clone()
    near[axis], far[axis] = one[axis] + reach + 0.1, one[axis] + reach + 9
    assert iou3d(one, near).item() == pytest.approx(0, abs=1e-12)
    assert giou3d(one, far).item() < giou3d(one, near).item() < 0
    if axis < 2:
        assert iou_bev(one, near).item() == pytest.approx(0, abs=1e-12)


@given(turned)
def test_a_box_equals_itself_turned_by_half_a_circle_and_with_sides_swapped(box: Row) -> None:
    x, y, z, dx, dy, dz, yaw = box
    same = [row(x, y, z, dx, dy, dz, yaw + math.pi), row(x, y, z, dy, dx, dz, yaw + math.pi / 2)]
    assert [iou3d(row(*box), other).item() for other in same] == pytest.approx([1, 1])


@given(turned)
def test_corners_are_the_footprint_at_both_heights(box: Row) -> None:
    points = corners(row(*box))
    assert points[:4, :2].flatten().tolist() == pytest.approx(
        [value for point in footprint(box) for value in point], abs=1e-9
    )
    assert points[:, 2].tolist() == pytest.approx([box[2] - box[5] / 2] * 4 + [box[2] + box[5] / 2] * 4)


@given(plain, st.permutations(range(8)))
def test_edges_and_centres_lead_back_to_each_other(box: Row, order: list[int]) -> None:
    centred = row(*box)
    ends = edges(centred)
    assert (ends[3:] - ends[:3]).tolist() == pytest.approx(box[3:])
    assert from_edges(ends).tolist() == pytest.approx(box, abs=1e-9)
    assert enclosing(corners(centred)[order]).tolist() == pytest.approx(box, abs=1e-9)


@given(turned)
def test_edges_of_a_turned_box_just_hold_it(box: Row) -> None:
    xs, ys = zip(*footprint(box), strict=True)
    found = edges(row(*box))[[0, 1, 3, 4]].tolist()
    assert found == pytest.approx([min(xs), min(ys), max(xs), max(ys)], abs=1e-9)


@settings(max_examples=10)
@given(tables, tables)
def test_leading_dimensions_broadcast(first: Tensor, second: Tensor) -> None:
    for overlap in (iou3d, iou_bev, giou3d):
        table = overlap(first[:, None], second)
        assert table.shape == (len(first), len(second))
        for i, j in ((0, 0), (len(first) - 1, len(second) - 1)):
            assert table[i, j].item() == pytest.approx(overlap(first[i], second[j]).item(), abs=1e-9)
    assert iou3d(first[:, None], second[:0]).shape == (len(first), 0)


@pytest.mark.parametrize("overlap", [iou3d, giou3d])
def test_gradients_agree_with_differences(overlap: Callable[[Tensor, Tensor], Tensor]) -> None:
    for width in (6, 7):
        first = row(0.3, -0.2, 0.1, 2.0, 1.0, 1.5, 0.6)[:width].requires_grad_()
        second = row(0.0, 0.1, 0.4, 1.2, 1.8, 1.0, -0.4)[:width].requires_grad_()
        assert torch.autograd.gradcheck(overlap, (first, second))


def test_gradients_stay_finite_where_boxes_touch_coincide_or_vanish() -> None:
    for other in ((0, 0, 0, 1, 1, 1, 0), (1, 0, 0, 1, 1, 1, 0), (5, 5, 5, 1, 1, 1, 1), (0, 0, 0, 0, 0, 0, 0)):
        box = torch.tensor([0.0, 0, 0, 1, 1, 1, 0], requires_grad=True)
        giou3d(box, torch.tensor(other, dtype=torch.float32)).backward()
        assert box.grad is not None
        assert box.grad.isfinite().all()


def test_single_precision_holds_far_from_the_origin() -> None:
    first, second = torch.tensor([[50.0, -80, 1, 0.4, 0.6, 0.8, 0.3], [50.1, -80, 1, 0.4, 0.6, 0.8, 1.1]])
    expected = iou3d(first.double(), second.double()).item()
    assert iou3d(first, second).item() == pytest.approx(expected, abs=1e-4)


def test_empty_boxes_overlap_nothing() -> None:
    whole = row(0, 0, 0, 2, 2, 2, 0.3)
    for size in (0.0, -1.0):
        empty = row(0, 0, 0, size, size, size, 0.3)
        assert [iou3d(empty, whole).item(), iou3d(empty, empty).item()] == [0, 0]
        assert iou3d(empty[:6], whole[:6]).item() == 0


def test_stack_takes_plain_and_turned_boxes_and_tells_bad_ones() -> None:
    assert stack([]).shape == (0, 6)
    assert stack([(0, 0, 0, 1, 1, 1), (0, 0, 0, 1, 1, 1, 2)]).tolist()[0] == [0, 0, 0, 1, 1, 1, 0]
    with pytest.raises(ValueError, match="1 of 2 boxes: a 3D box has 6 numbers"):
        stack([(0, 0, 0, 1, 1, 1), (0, 0, 1, 1)])
    with pytest.raises(ValueError, match=r"shape \(8, 3\); 8 corners become boxes"):
        iou3d(torch.zeros(8, 3), torch.zeros(6))


@pytest.mark.parametrize(
    ("box", "words"),
    [
        ((0, 0, 0, 1, 1), "has 6 numbers (centre, size) or 7 (and yaw), this one has 5"),
        ((0, 0, 0, 1, 0, 1), "its size along y is 0, not above 0"),
        ((0, 0, math.nan, 1, 1, 1), "not finite"),
        ((0, 0, 0, 1, 1, 1, math.inf), "not finite"),
        ((2e9, 0, 0, 1, 1, 1), "a number is beyond 1e+09 metres"),
        ((0, 0, 0, 1, 1, 10**350), "a number is beyond 1e+09 metres"),
    ],
)
def test_a_bad_box_is_told_in_words(box: Row, words: str) -> None:
    assert words in str(box_error(box))


@given(turned)
def test_a_good_box_has_no_problem(box: Row) -> None:
    assert box_error(box) is None
    assert box_error(box[:6]) is None
