"""Assignments are as good as the best of all, found by exhaustive search."""

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from octavius.metrics.boxes.assignment import best_assignment

tables = st.tuples(st.integers(0, 5), st.integers(0, 5)).flatmap(
    lambda shape: st.lists(
        st.lists(st.integers(-4, 4), min_size=shape[1], max_size=shape[1]),
        min_size=shape[0],
        max_size=shape[0],
    ).map(lambda rows: np.array(rows, dtype=float).reshape(shape))
)


@given(tables)
def test_the_sum_equals_the_best_of_all_ways_to_pair(values: np.ndarray) -> None:
    pairs = best_assignment(values)
    short, long = sorted(values.shape)
    table = values if values.shape == (short, long) else values.T
    best = max(
        sum(table[row, column] for row, column in enumerate(order))
        for order in permutations(range(long), short)
    )
    assert sum(values[pair] for pair in pairs) == best
    assert len(pairs) == len({row for row, _ in pairs}) == len({column for _, column in pairs}) == short


def test_a_hidden_order_is_found_in_a_large_table() -> None:
    rng = np.random.default_rng(0)
    order = rng.permutation(120)[:80]
    values = rng.uniform(0, 0.5, (80, 120))
    values[np.arange(80), order] += 0.5  # above all others, so any other pair costs
    assert best_assignment(values) == list(enumerate(order.tolist()))


def test_values_that_are_no_numbers_are_refused() -> None:
    with pytest.raises(ValueError, match="infinite or not a number"):
        best_assignment(np.array([[1.0, np.nan]]))
