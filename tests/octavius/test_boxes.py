"""Areas and overlaps equal counted cells, and invalid boxes are refused with a message."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from octavius.boxes import Box, area, box_error, clip, iou, normalise

CELLS = 8
edges = st.integers(0, CELLS)
grid_boxes = st.tuples(*[edges.map(lambda edge: edge / CELLS)] * 4)
any_boxes = st.tuples(*[st.floats(-2, 3)] * 4)


def cells(box: Box) -> set[tuple[int, int]]:
    """The cells of an 8 x 8 grid that lie inside a box, none when it is reversed."""
    x1, y1, x2, y2 = (round(edge * CELLS) for edge in box)
    return {(x, y) for x in range(x1, x2) for y in range(y1, y2)}


@given(grid_boxes, grid_boxes)
def test_area_and_iou_equal_counted_cells(first: Box, second: Box) -> None:
    inside, other = cells(first), cells(second)
    assert area(first) == pytest.approx(len(inside) / CELLS**2)
    union = inside | other
    assert iou(first, second) == pytest.approx(len(inside & other) / len(union) if union else 0.0)


@given(any_boxes, any_boxes)
def test_iou_is_symmetric_and_lies_between_zero_and_one(first: Box, second: Box) -> None:
    assert iou(first, second) == iou(second, first)
    assert 0.0 <= iou(first, second) <= 1.0


@given(grid_boxes.filter(lambda box: area(box) > 0))
def test_a_box_overlaps_itself_wholly(box: Box) -> None:
    assert iou(box, box) == 1.0


@given(any_boxes)
def test_clip_stays_inside_and_leaves_what_is_inside(box: Box) -> None:
    clipped = clip(box)
    assert all(0.0 <= edge <= 1.0 for edge in clipped)
    for edge, kept in zip(box, clipped, strict=True):
        assert kept == edge or not 0.0 <= edge <= 1.0


@given(grid_boxes, st.integers(1, 2000), st.integers(1, 2000))
def test_normalise_undoes_pixels(box: Box, width: int, height: int) -> None:
    pixels = (box[0] * width, box[1] * height, box[2] * width, box[3] * height)
    assert normalise(pixels, width, height) == pytest.approx(box)


@given(grid_boxes)
def test_a_box_is_good_exactly_when_it_has_cells(box: Box) -> None:
    assert (box_error(box) is None) == bool(cells(box))


@pytest.mark.parametrize(
    ("box", "words"),
    [
        ((0.1, 0.2, 0.3), "a box has 4 numbers, this one has 3"),
        ((0.1, 0.2, 0.3, 1.2), "outside 0..1"),
        ((float("nan"), 0.2, 0.3, 0.4), "outside 0..1"),
        ((0.1, 0.2, float("inf"), 0.4), "outside 0..1"),
        ((0.5, 0.2, 0.5, 0.4), "not left of"),
        ((0.1, 0.5, 0.2, 0.4), "not above"),
    ],
)
def test_a_bad_box_is_told_in_words(box: tuple[float, ...], words: str) -> None:
    assert words in str(box_error(box))


def test_rounding_just_past_the_rim_is_forgiven() -> None:
    assert box_error((-0.0005, 0.0, 1.0005, 1.0)) is None
    assert box_error((-0.002, 0.0, 1.0, 1.0)) is not None
