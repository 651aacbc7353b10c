"""A table of how well each row suits each column comes in; the pairs with the best sum go out."""

import numpy as np


def best_assignment(values: np.ndarray) -> list[tuple[int, int]]:
    """Pairs of a row and a column, each in one pair at most, with the largest sum of values.

    As many pairs are made as the shorter side has places, whatever they are worth. This is the Hungarian method:
    rows and columns have prices that keep what is left of every cost at zero or above, and pairs cost nothing.

    Args:
        values: (rows, columns), finite.

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
    """Gives one more row a column, along the cheapest path on which rows pass theirs on; changes the rest.

    Args:
        row: the new row.
        cost: (rows, columns).
        row_price: (rows,).
        column_price: (columns,).
        owner: (columns,), the row that has each column, -1 for none.
    """
    columns = cost.shape[1]
    least = np.full(columns, np.inf)  # the cheapest way to each column so far
    before = np.full(columns, -1)  # the column that this way passes before it
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
