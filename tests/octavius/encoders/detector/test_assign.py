"""Assignment of targets equals plain loops over random locations and boxes."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from datamodules.benchmarks.clouds.scannet import DETECTION_CLASSES
from octavius.encoders.detector.assign import (
    SCANNET_LEVELS,
    UNASSIGNED,
    assign_fcaf3d,
    assign_tr3d,
    centreness,
    class_levels,
)

LEVELS = 3


def drawn(seed: int, count: int, boxes: int) -> tuple[Tensor, Tensor, Tensor]:
    rng = torch.Generator().manual_seed(seed)
    places = torch.rand(count, 3, generator=rng, dtype=torch.float64) * 2
    levels = torch.randint(0, LEVELS, (count,), generator=rng)
    centres = torch.rand(boxes, 3, generator=rng, dtype=torch.float64) * 2
    sizes = torch.rand(boxes, 3, generator=rng, dtype=torch.float64) * 1.8 + 0.1
    return places, levels, torch.cat([centres, sizes], dim=1)


def naive_centreness(place: list[float], box: list[float]) -> float | None:
    """The published formula for one location and one box; None outside."""
    product = 1.0
    for axis in range(3):
        below = place[axis] - (box[axis] - box[axis + 3] / 2)
        above = box[axis] + box[axis + 3] / 2 - place[axis]
        if min(below, above) <= 0:
            return None
        product *= min(below, above) / max(below, above)
    return math.sqrt(product)


def naive_fcaf3d(
    places: Tensor, levels: Tensor, boxes: Tensor, inside: int, best: int
) -> list[tuple[int, float]]:
    """Box after box, level after level, as the paper tells it."""
    rows, found = places.tolist(), list[tuple[float, int, float]]()
    claims: dict[int, list[tuple[float, int, float]]] = {}
    for number, box in enumerate(boxes.tolist()):
        within = {
            at: value for at, row in enumerate(rows) if (value := naive_centreness(row, box)) is not None
        }
        level = 0
        for candidate in range(LEVELS):
            if sum(int(levels[at]) == candidate for at in within) < inside:
                break
            level = candidate
        here = sorted((at for at in within if int(levels[at]) == level), key=lambda at: -within[at])
        for at in here[:best]:
            claims.setdefault(at, []).append((box[3] * box[4] * box[5], number, within[at]))
    for at in range(len(rows)):
        found.append(min(claims[at]) if at in claims else (0.0, UNASSIGNED, 0.0))
    return [(number, value) for _, number, value in found]


@given(st.integers(0, 10**6), st.integers(1, 80), st.integers(0, 4), st.integers(1, 12), st.integers(1, 9))
@settings(max_examples=60, deadline=None)
def test_fcaf3d_chooses_as_loops_do(seed: int, count: int, boxes: int, inside: int, best: int) -> None:
    places, levels, truth = drawn(seed, count, boxes)
    box, centre = assign_fcaf3d(places, levels, truth, LEVELS, inside, best)
    wanted = naive_fcaf3d(places, levels, truth, inside, best)
    assert box.tolist() == [number for number, _ in wanted]
    assert centre.tolist() == pytest.approx([value for _, value in wanted])


def test_centreness_is_one_in_the_middle_and_falls_towards_the_faces() -> None:
    box = torch.tensor([[1.0, 2.0, 3.0, 2.0, 2.0, 4.0]])
    places = torch.tensor([[1.0, 2.0, 3.0], [1.5, 2.0, 3.0], [2.0, 2.0, 3.0], [1.0, 2.0, 5.1]])
    found = centreness(places, box)[:, 0].tolist()
    assert found == pytest.approx([1, math.sqrt(0.5 / 1.5), -1, -1])


def naive_tr3d(places: Tensor, levels: Tensor, boxes: Tensor, of_box: list[int], nearest: int) -> list[int]:
    """Box after box: the nearest locations of its level; then each location's nearest such box."""
    rows, claims = places.tolist(), dict[int, list[tuple[float, int]]]()
    for number, box in enumerate(boxes.tolist()):
        here = [at for at in range(len(rows)) if int(levels[at]) == of_box[number]]
        for at in sorted(here, key=lambda at: math.dist(rows[at], box[:3]))[:nearest]:
            claims.setdefault(at, []).append((math.dist(rows[at], box[:3]), number))
    return [min(claims[at])[1] if at in claims else UNASSIGNED for at in range(len(rows))]


@given(st.integers(0, 10**6), st.integers(1, 60), st.integers(0, 5), st.integers(1, 9))
@settings(max_examples=60, deadline=None)
def test_tr3d_chooses_as_loops_do(seed: int, count: int, boxes: int, nearest: int) -> None:
    places, levels, truth = drawn(seed, count, boxes)
    of_box = torch.randint(0, LEVELS, (boxes,), generator=torch.Generator().manual_seed(seed))
    found = assign_tr3d(places, levels, truth, of_box, nearest)
    assert found.tolist() == naive_tr3d(places, levels, truth, of_box.tolist(), nearest)


def test_scannets_classes_have_the_published_levels() -> None:
    names = tuple(DETECTION_CLASSES.values())
    published = [
        0,
        1,
        0,
        1,
        1,
        0,
        1,
        1,
        0,
        1,
        1,
        1,
        0,
        0,
        0,
        0,
        1,
        0,
    ]  # label2level of the published settings
    assert {*SCANNET_LEVELS} == {*names}
    assert list(class_levels(names, torch.ones(18, 3), (0.16, 0.32))) == published


def test_other_classes_are_found_where_voxels_are_a_third_of_them_or_finer() -> None:
    sizes = torch.tensor([[0.1, 0.1, 2.0], [0.95, 0.2, 0.1], [0.2, 0.97, 0.1], [9.0, 9.0, 9.0]])
    assert class_levels("abcd", sizes, (0.16, 0.32)) == (0, 0, 1, 1)
    assert class_levels("abcd", sizes, (0.16, 0.32, 0.64)) == (0, 0, 1, 2)
