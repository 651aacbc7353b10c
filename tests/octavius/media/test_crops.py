"""Crops of boxes from clouds: which points are taken, and how many."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from octavius.media.crops import FEWEST, MARGIN, crop, inside, resampled

BOX = (1.0, -2.0, 0.5, 0.8, 0.6, 1.0)


def scene(points: int = 400) -> Tensor:
    """Points in a room around the box, each with its number as its colour."""
    places = torch.rand(points, 3) * torch.tensor([3.0, 3.0, 2.0]) + torch.tensor([-0.5, -3.5, -0.5])
    return torch.cat([places, torch.arange(float(points))[:, None].expand(-1, 3)], dim=1)


@given(st.floats(0, 0.5))
def test_inside_are_the_points_within_the_box_and_its_margin(margin: float) -> None:
    torch.manual_seed(1)
    points = scene(100)
    expected = [
        index
        for index, row in enumerate(points.tolist())
        if all(
            abs(value - middle) <= side / 2 + margin
            for value, middle, side in zip(row, BOX[:3], BOX[3:], strict=False)
        )
    ]
    assert inside(points, BOX, margin).tolist() == expected


def test_a_point_on_the_enlarged_face_is_inside() -> None:
    points = torch.tensor([[1.0 + 0.4 + MARGIN - 1e-4, -2, 0.5], [1.0 + 0.4 + MARGIN + 1e-4, -2, 0.5]])
    assert inside(points, BOX).tolist() == [0]
    assert inside(points, torch.tensor(BOX)).tolist() == [0]


@pytest.mark.parametrize("count", [FEWEST - 10, 64, 500])
def test_a_crop_has_the_points_asked_for_and_all_of_them_from_the_box(count: int) -> None:
    points = scene(1000)
    found = inside(points, BOX)
    assert FEWEST < len(found) < 500
    cut = crop(points, BOX, count=count)
    numbers = cut[:, 3].long()
    assert cut.shape == (count, 6)
    assert torch.equal(cut, points[numbers])
    assert set(numbers.tolist()) <= set(found.tolist())
    times = numbers.bincount(minlength=len(points))[found]
    assert times.max() - times.min() <= 1  # nothing returns before all have been taken


def test_a_crop_is_the_same_always_unless_it_is_drawn() -> None:
    points = scene(1000)
    assert torch.equal(crop(points, BOX, count=40), crop(points, BOX, count=40))
    drawn = [crop(points, BOX, count=40, generator=torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)]
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])


def test_a_box_of_few_points_is_told_or_taken() -> None:
    points = torch.cat([torch.full((FEWEST - 1, 3), 0.5), torch.full((9, 3), 7.0)])
    box = (0.5, 0.5, 0.5, 0.1, 0.1, 0.1)
    with pytest.raises(
        ValueError, match=r"at least 32 points in the box at \(0.50, 0.50, 0.50\), found 31 of 40"
    ):
        crop(points, box, count=8)
    assert crop(points, box, count=8, fewest=31).shape == (8, 3)
    with pytest.raises(ValueError, match="at least 1 points in the box"):
        crop(points, (90.0, 0, 0, 1, 1, 1), count=8, fewest=0)


@pytest.mark.parametrize(
    ("box", "margin", "said"),
    [
        ((0, 0, 0, 1, 1), 0, "expected 6 numbers, found 5"),
        ((0, 0, 0, 1, 1, 1, 0), 0, "expected 6 numbers, found 7"),
        ((0, 0, 0, 1, -1, 1), 0, "its size along y is -1"),
        ((0, 0, float("nan"), 1, 1, 1), 0, "not finite"),
        ((0, 0, 0, 1, 1, 1), -0.1, "0 metres or more"),
    ],
)
def test_no_box_is_told(box: tuple[float, ...], margin: float, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        inside(scene(), box, margin)


@given(st.integers(1, 30), st.integers(1, 100))
def test_resampling_takes_all_before_any_twice(points: int, count: int) -> None:
    found = resampled(torch.arange(points)[:, None], count)[:, 0].bincount(minlength=points)
    assert found.sum() == count
    assert found.max() - found.min() <= 1


@pytest.mark.parametrize(("points", "count"), [(0, 4), (4, 0)])
def test_nothing_cannot_be_resampled(points: int, count: int) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        resampled(torch.zeros(points, 3), count)
