"""Which cases of a test run in `make test`; the others run in `make test-slow`."""

from collections.abc import Iterable
from typing import Any

import pytest


def mostly_slow(cases: Iterable[Any], quick: int) -> list[Any]:
    """Cases for `parametrize`, all but `quick` of them, spread evenly, marked slow.

    Args:
        cases: values of one parameter, or a tuple of the values of several for each case.
        quick: number of cases that stay quick.
    """
    listed = [*cases]
    kept = {index * len(listed) // quick for index in range(quick)}
    found = []
    for index, case in enumerate(listed):
        values = case if isinstance(case, tuple) else (case,)
        found.append(pytest.param(*values, marks=[] if index in kept else [pytest.mark.slow]))
    return found
