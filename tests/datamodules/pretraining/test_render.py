"""Views of point clouds show the nearest points and fill the frame."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datamodules.miniature.rooms.furniture.catalogue import draw_appearance
from datamodules.miniature.rooms.sensor import whole_thing
from datamodules.pretraining.render import (
    BACKGROUND,
    nearest_points,
    render,
    splat_reach,
)

GREY = round(BACKGROUND * 255)


def slow_nearest(pixels: np.ndarray, size: int, reach: int) -> np.ndarray:
    """One point after the other, one pixel after the other."""
    shown = np.full((size, size), -1)
    depth = np.full((size, size), np.inf)
    for number, (column, row, away) in enumerate(pixels):
        for y in range(size):
            for x in range(size):
                covers = max(abs(x - math.floor(column)), abs(y - math.floor(row))) <= reach
                if covers and away < depth[y, x]:
                    shown[y, x], depth[y, x] = number, away
    return shown


@given(
    st.integers(1, 12),
    st.integers(3, 9),
    st.integers(0, 3),
    st.integers(0, 2**31),
)
def test_each_pixel_shows_the_nearest_point_that_covers_it(
    count: int, size: int, reach: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    pixels = rng.uniform(-3, size + 3, (count, 3))
    pixels[:, 2] = pixels[:, 2].round()  # so that some are equally near: then the first one is shown
    found = nearest_points(pixels, size, reach)
    assert np.array_equal(found, slow_nearest(pixels, size, reach))


def posts(*places: tuple[float, float, float], colours: np.ndarray | None = None) -> np.ndarray:
    """Small cubes of 300 points around places, each of one colour: red, green, blue, ..."""
    rng = np.random.default_rng(0)
    colours = np.eye(3) if colours is None else colours
    return np.concatenate(
        [
            np.concatenate([rng.uniform(-0.1, 0.1, (300, 3)) + place, np.tile(colour, (300, 1))], 1)
            for place, colour in zip(places, colours, strict=False)
        ]
    )


def mean_place(picture: np.ndarray, channel: int) -> tuple[float, float]:
    """Mean row and column of the pixels in which a channel stands out."""
    others = picture[..., [c for c in range(3) if c != channel]].max(-1)
    rows, columns = np.nonzero(picture[..., channel].astype(int) - others > 60)
    return float(rows.mean()), float(columns.mean())


def test_the_viewer_stands_before_the_front_and_goes_round_counter_clockwise() -> None:
    """Red is on the thing's right (+x), green on top, blue in front."""
    points = posts((1, 0, 0), (0, 0, 1), (0, 1, 0))
    (red_y, red_x), (green_y, green_x), (blue_y, blue_x) = (
        mean_place(render(points, 0, 0.35, 64), c) for c in range(3)
    )
    assert red_x < green_x - 10  # its right is on the viewer's left
    assert abs(blue_x - green_x) < 2
    assert green_y < red_y - 10
    assert red_y < blue_y - 5  # what is near lies lower, seen from above
    # A quarter turn counter-clockwise the viewer stands at -x: blue, to the north, is on the left.
    turned = render(points, math.pi / 2, 0.35, 64)
    assert mean_place(turned, 2)[1] < mean_place(turned, 1)[1] - 10


def test_what_is_behind_is_hidden() -> None:
    rng = np.random.default_rng(0)
    wall = np.concatenate([rng.uniform(-1, 1, (4000, 3)) * (1, 0.01, 1), np.tile((1.0, 0, 0), (4000, 1))], 1)
    points = np.concatenate([wall, posts((0, -1, 0), colours=np.eye(3)[2:])])
    before, behind = render(points, 0, 0.1), render(points, math.pi, 0.1)
    assert (before[..., 2] > before[..., 0]).sum() == 0
    assert (behind[..., 2] > behind[..., 0]).sum() > 10


@given(st.floats(-7, 7), st.floats(0, 1.2), st.floats(0.01, 100), st.integers(0, 2**31))
def test_a_thing_fills_its_picture_wherever_it_stands_and_however_large(
    yaw: float, pitch: float, scale: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    points = np.concatenate([rng.uniform(-1, 1, (400, 3)) * (1, 0.5, 0.8), rng.uniform(0, 0.5, (400, 3))], 1)
    moved = points.copy()
    moved[:, :3] = moved[:, :3] * scale + (5, -3, 2)
    picture = render(points, yaw, pitch, 48)
    assert np.mean(picture == render(moved, yaw, pitch, 48)) > 0.97  # but for rounding at edges
    rows, columns = np.nonzero((picture != GREY).any(-1))
    assert 40 <= max(np.ptp(rows), np.ptp(columns)) + 1 <= 48
    assert abs(rows.min() - (47 - rows.max())) <= 2
    assert abs(columns.min() - (47 - columns.max())) <= 2


@pytest.mark.parametrize("count", [400, 1000, 4000])
@pytest.mark.parametrize("size", [32, 64, 160])
def test_surfaces_close(count: int, size: int) -> None:
    """A board seen from its front shows hardly any background inside, however many points it has."""
    rng = np.random.default_rng(1)
    points = np.concatenate([rng.uniform(-1, 1, (count, 3)) * (1, 0.02, 1), np.tile(0.2, (count, 3))], 1)
    picture = render(points, 0, 0.0, size)
    inside = picture[size // 6 : -size // 6, size // 6 : -size // 6]
    assert (inside == GREY).all(-1).mean() < 0.08


def test_splats_grow_as_points_get_fewer() -> None:
    rng = np.random.default_rng(0)
    reaches = [splat_reach(rng.uniform(0, 64, (count, 3)), 64) for count in (60, 250, 1000, 4000)]
    assert reaches == sorted(reaches, reverse=True)
    assert reaches[0] > reaches[-1] >= 1


def test_tops_are_brighter_than_sides() -> None:
    rng = np.random.default_rng(0)
    cube = rng.uniform(-1, 1, (6000, 3))
    row = np.arange(6000)
    cube[row, rng.integers(3, size=6000)] = rng.choice((-1.0, 1.0), 6000)
    picture = render(np.concatenate([cube, np.full((6000, 3), 0.5)], 1), 0, 0.6, 64)
    lit = picture[..., 0].astype(float)
    column = lit[:, 28:36]
    top, front = column[12:20].mean(), column[38:50].mean()
    assert top > front + 5


def test_one_point_and_many_equal_points_are_drawn() -> None:
    for count in (1, 50):
        picture = render(np.tile([1.0, 2, 3, 1, 0, 0], (count, 1)), 0)
        assert mean_place(picture, 0) == pytest.approx((32, 32), abs=1)


@pytest.mark.parametrize("shape", [(0, 6), (5, 3), (6,)])
def test_what_cannot_be_drawn_is_told(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"\(P, 6\)"):
        render(np.zeros(shape), 0)


def test_drawing_repeats_and_leaves_its_points_alone() -> None:
    rng = np.random.default_rng(3)
    points = np.concatenate(whole_thing(draw_appearance(rng, "sofa"), 1500, rng), 1)
    before = points.copy()
    assert np.array_equal(render(points, 0.4), render(points, 0.4))
    assert np.array_equal(points, before)
