"""Surfaces and extents of parts agree with slow and obvious ones."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datamodules.miniature.rooms.furniture.solids import (
    Part,
    area,
    ball,
    box,
    extent,
    moved,
    sheet,
    surface,
    tube,
)

SIZE = st.tuples(*[st.floats(0.05, 2)] * 3)
PLACE = st.tuples(*[st.floats(-2, 2)] * 3)
PARTS = st.builds(
    Part,
    st.sampled_from(["box", "tube", "ball", "sheet"]),
    SIZE,
    PLACE,
    turn=st.floats(-4, 4),
    lean=st.floats(-2, 2),
    taper=st.floats(0.3, 2),
    open=st.booleans(),
)


def turned(points: np.ndarray, angle: float) -> np.ndarray:
    """Points turned counter-clockwise as seen from above, one at a time."""
    rows = [
        (x * math.cos(angle) - y * math.sin(angle), x * math.sin(angle) + y * math.cos(angle), z)
        for x, y, z in points
    ]
    return np.array(rows)


@given(PARTS, st.floats(-4, 4))
def test_a_surface_fills_its_extent_and_no_more(part: Part, angle: float) -> None:
    points, _ = surface(part, 4000, np.random.default_rng(0))
    low, high = extent([part], angle)
    found = turned(points, angle)
    assert (found >= low - 1e-9).all()
    assert (found <= high + 1e-9).all()
    slack = 0.12 * max(part.size) + 0.01
    if part.shape != "sheet":  # whose wave may not reach its whole depth
        assert (found.min(0) <= low + slack).all()
        assert (found.max(0) >= high - slack).all()


@given(PARTS)
def test_normals_point_outward_and_have_length_one_or_none(part: Part) -> None:
    points, normals = surface(part, 200, np.random.default_rng(0))
    lengths = np.linalg.norm(normals, axis=1)
    if part.shape == "sheet" or (part.shape == "tube" and part.open):
        assert (lengths == 0).all()
        return
    assert lengths == pytest.approx(np.ones(200))
    outward = ((points - np.array(part.centre)) * normals).sum(1)
    assert (outward > 0).mean() > 0.99 if part.shape != "tube" else (outward > 0).mean() > 0.6


@pytest.mark.parametrize(
    ("part", "square_metres"),
    [
        (box((1, 2, 3), (0, 0, 0)), 22),
        (ball((2, 2, 2), (0, 0, 0)), 4 * math.pi),
        (tube((2, 2, 3), (0, 0, 0)), 2 * math.pi * 3 + 2 * math.pi),
        (tube((2, 2, 3), (0, 0, 0), open=True), 2 * math.pi * 3 + math.pi),
        (tube((2, 2, 1), (0, 0, 0), taper=1e-9), math.pi * math.sqrt(2) + math.pi),  # a cone
        (sheet((2, 0.1, 3), (0, 0, 0)), 6),
    ],
)
def test_areas(part: Part, square_metres: float) -> None:
    assert area(part) == pytest.approx(square_metres, rel=1e-6)


def test_points_are_spread_by_area() -> None:
    points, _ = surface(box((1, 2, 3), (0, 0, 0)), 22_000, np.random.default_rng(0))
    assert (points[:, 2] == 0).sum() == pytest.approx(2000, rel=0.1)
    assert (points[:, 0] == 0.5).sum() == pytest.approx(6000, rel=0.1)
    cone, _ = surface(tube((2, 2, 1), (0, 0, 0), taper=1e-9), 20_000, np.random.default_rng(0))
    mantle = cone[cone[:, 2] > 0]
    assert (mantle[:, 2] > 0.5).mean() == pytest.approx(0.25, abs=0.02)  # the upper half of a cone


def test_moving_moves() -> None:
    parts = [box((1, 1, 1), (0, 0, 0)), ball((1, 1, 1), (2, 0, 0))]
    low, high = extent(moved(parts, (1, 2, 3)))
    assert low == pytest.approx((0.5, 1.5, 3))
    assert high == pytest.approx((3.5, 2.5, 4))
