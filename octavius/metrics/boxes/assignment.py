"""Optimal assignment by the Hungarian method."""

import numpy as np


def best_assignment(values: np.ndarray) -> list[tuple[int, int]]:
    """One-to-one pairs of rows and columns with the largest sum of values.

    The number of pairs is that of the shorter side, even if values are negative. Implements the Hungarian
    method with potentials: reduced costs stay non-negative, and are zero for pairs.

    Args:
        values: (rows, columns), finite.

    Raises:
        ValueError: a value is not finite.

    >>> best_assignment(np.array([[3.0, 2.0, 0.0], [2.0, 0.0, 0.0]]))
    [(0, 1), (1, 0)]
    """
    if not np.isfinite(values).all():
        raise ValueError("the values of an assignment are finite, but some are infinite or not a number")
    rows, columns = values.shape
    if rows > columns:
        return sorted((row, column) for column, row in best_assignment(values.T))
    prices = np.zeros(rows), np.zeros(columns)
    owner = np.full(columns, -1)
    for row in range(rows):
        _place(row, -values, *prices, owner)
    return sorted((int(owner[column]), int(column)) for column in np.flatnonzero(owner >= 0))


def _place(
    row: int, cost: np.ndarray, row_price: np.ndarray, column_price: np.ndarray, owner: np.ndarray
) -> None:
    """Assigns one more row along the shortest augmenting path; updates potentials and `owner` in place.

    Args:
        row: index of the new row.
        cost: (rows, columns).
        row_price: (rows,) potentials.
        column_price: (columns,) potentials.
        owner: (columns,) row assigned to each column, -1 for none.
    """
    columns = cost.shape[1]
    least = np.full(columns, np.inf)  # cost of the shortest path to each column so far
    before = np.full(columns, -1)  # the previous column on that path
    passed = np.zeros(columns, dtype=bool)
    here, column = row, -1
    while here >= 0:
        left = cost[here] - row_price[here] - column_price
        nearer = ~passed & (left < least)
        least[nearer], before[nearer] = left[nearer], column
        column = int(np.where(passed, np.inf, least).argmin())
        step = least[column]
        row_price[row] += step
        row_price[owner[passed]] += step
        column_price[passed] -= step
        least[~passed] -= step
        passed[column] = True
        here = int(owner[column])
    while column >= 0:
        source = int(before[column])
        owner[column] = owner[source] if source >= 0 else row
        column = source
