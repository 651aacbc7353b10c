"""Gaps and shared footprints of boxes against slow versions."""

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datamodules.instructions.relations import MinMaxBox, footprint_overlap, gap


def boxes(low: int = -3, high: int = 3) -> st.SearchStrategy[MinMaxBox]:
    """Boxes with whole edges, at least one long."""
    corner, size = st.tuples(*[st.integers(low, high)] * 3), st.tuples(*[st.integers(1, 4)] * 3)
    return st.tuples(corner, size).map(
        lambda cs: (*map(float, cs[0]), *[float(c + s) for c, s in zip(*cs, strict=True)])
    )  # type: ignore[return-value]


def cells(box: MinMaxBox) -> set[tuple[int, int]]:
    x1, y1, _, x2, y2, _ = map(round, box)
    return {(x, y) for x in range(x1, x2) for y in range(y1, y2)}


def corners(box: MinMaxBox) -> list[tuple[int, ...]]:
    """All whole points of a box."""
    return list(itertools.product(*(range(round(box[i]), round(box[i + 3]) + 1) for i in range(3))))


@given(boxes(), boxes())
def test_the_gap_is_the_shortest_way(first: MinMaxBox, second: MinMaxBox) -> None:
    slow = min(math.dist(a, b) for a in corners(first) for b in corners(second))
    assert gap(first, second) == pytest.approx(slow)


@given(boxes(), boxes())
def test_shared_footprints(first: MinMaxBox, second: MinMaxBox) -> None:
    common = len(cells(first) & cells(second))
    smaller = min(len(cells(first)), len(cells(second)))
    assert footprint_overlap(first, second) == pytest.approx(common / smaller)
