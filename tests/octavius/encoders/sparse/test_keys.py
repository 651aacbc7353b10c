"""Voxel keys sort, shift and are looked up like the coordinates that they encode."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from octavius.encoders.sparse.keys import (
    LIMIT,
    MARGIN,
    REACH,
    check_range,
    find,
    first_of_each,
    kernel_offsets,
    kernel_shifts,
    pack,
    unpack,
)

EDGE = LIMIT + MARGIN - 1
axes = st.integers(-EDGE, EDGE) | st.sampled_from([-EDGE, -1, 0, EDGE])
coords = st.lists(st.tuples(st.integers(0, 2**15 - 1), axes, axes, axes), min_size=1, max_size=20)


@given(coords)
def test_keys_go_back_and_sort_as_coordinates(rows: list[tuple[int, ...]]) -> None:
    keys = pack(torch.tensor(rows))
    assert unpack(keys).tolist() == [list(row) for row in rows]
    assert unpack(keys.sort().values).tolist() == [list(row) for row in sorted(rows)]


@given(
    coords.map(lambda rows: [[b, *(v // 2 for v in row)] for b, *row in rows]), st.sampled_from([1, 2, 3, 5])
)
def test_a_neighbours_key_is_a_fixed_step_away(rows: list[list[int]], size: int) -> None:
    keys = pack(torch.tensor(rows))
    for offset, shift in zip(
        kernel_offsets(size, 8), kernel_shifts(size, 8, keys.device).tolist(), strict=True
    ):
        moved = [[b, x + offset[0], y + offset[1], z + offset[2]] for b, x, y, z in rows]
        assert unpack(keys + shift).tolist() == moved


@pytest.mark.parametrize(("size", "start"), [(1, 0), (2, 0), (3, -1), (4, 0), (5, -2)])
def test_x_runs_fastest_and_odd_kernels_are_centred(size: int, start: int) -> None:
    assert kernel_offsets(size, 2) == [
        tuple(2 * (start + digit) for digit in (k % size, k // size % size, k // size**2))
        for k in range(size**3)
    ]


@given(st.sets(st.integers(0, 60)), st.lists(st.integers(-2, 62)))
def test_find_equals_a_search_in_a_list(known: set[int], wanted: list[int]) -> None:
    keys = sorted(known)
    found = find(torch.tensor(keys, dtype=torch.long), torch.tensor(wanted, dtype=torch.long))
    assert found.tolist() == [keys.index(key) if key in known else -1 for key in wanted]


@given(st.lists(st.integers(0, 9), min_size=1))
def test_the_first_of_equal_keys_is_named(rows: list[int]) -> None:
    keys, first = first_of_each(torch.tensor(rows))
    assert keys.tolist() == sorted(set(rows))
    assert first.tolist() == [rows.index(key) for key in keys.tolist()]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, LIMIT + 1.0, -LIMIT - 1.0])
def test_positions_without_a_key_are_told(value: float) -> None:
    check_range(torch.tensor([[0.0, LIMIT, -LIMIT]]))
    with pytest.raises(ValueError, match=rf"within {LIMIT} voxels of the origin.*\(number 1\); centre"):
        check_range(torch.tensor([[0.0, 0.0, 0.0], [0.0, value, 0.0]]))


def test_a_kernel_must_have_a_size_and_stay_within_reach() -> None:
    with pytest.raises(ValueError, match="a kernel of size 1 or more, found 0"):
        kernel_offsets(0, 1)
    with pytest.raises(ValueError, match=f"spans {3 * REACH} of the finest voxels"):
        kernel_offsets(3, REACH)
