"""Ranges of numeric settings, with an error that names the setting.

Classes check their settings first, before anything is loaded. A senseless number should not surface as a
stack trace deep in a library, as a run that never ends or, worst of all, not at all.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Range:
    """An interval of allowed values.

    Attributes:
        minimum: lower bound.
        maximum: upper bound.
        integer: allow integers only.
        exclude_minimum: exclude `minimum` itself.
        exclude_maximum: exclude `maximum` itself.
    """

    minimum: float
    maximum: float
    integer: bool = False
    exclude_minimum: bool = False
    exclude_maximum: bool = False

    def check(self, **settings: float | Iterable[float] | Mapping[Any, float] | None) -> None:
        """Checks that each setting, or each number in it, is in the range; None is accepted.

        Raises:
            ValueError: one is not; the message names it.
        """
        for name, value in settings.items():
            values = value.values() if isinstance(value, Mapping) else value
            numbers = values if isinstance(values, Iterable) else (values,)
            for number in numbers:
                if number is not None and not self._holds(number):
                    raise ValueError(f"{name} should be {self}, found {number!r:.40}")

    def _holds(self, number: float) -> bool:
        kinds = int if self.integer else (int, float)
        if isinstance(number, bool) or not isinstance(number, kinds) or math.isnan(number):
            return False
        low = number > self.minimum if self.exclude_minimum else number >= self.minimum
        return low and (number < self.maximum if self.exclude_maximum else number <= self.maximum)

    def __str__(self) -> str:
        """The range in words, for error messages."""
        kind = "a whole number" if self.integer else "a number"
        low = f"above {self.minimum:,g}" if self.exclude_minimum else f"of at least {self.minimum:,g}"
        return f"{kind} {low} and {'below' if self.exclude_maximum else 'at most'} {_plain(self.maximum)}"


def _plain(number: float) -> str:
    return f"{number:,.0f}" if number >= 1 else f"{number:g}"


POSITIVE_INT = Range(1, 10**8, integer=True)
NON_NEGATIVE_INT = Range(0, 10**8, integer=True)
SIZE_RANGE = Range(1, 2**16, integer=True)
"""A batch size, or a dimension of a layer."""
WORKERS_RANGE = Range(0, 256, integer=True)
SEED_RANGE = Range(0, 2**32 - 1, integer=True)
"""Seeds that numpy, torch and Lightning all accept."""
FRACTION = Range(0, 1)
PROBABILITY_BELOW_1 = Range(0, 1, exclude_maximum=True)
"""The probability of dropping something, which must be below 1."""
POSITIVE_NUMBER = Range(0, 10**9, exclude_minimum=True)
NON_NEGATIVE_NUMBER = Range(0, 10**9)
