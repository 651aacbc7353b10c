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
        least: lower bound.
        most: upper bound.
        whole: allow integers only.
        above: exclude `least` itself.
        below: exclude `most` itself.
    """

    least: float
    most: float
    whole: bool = False
    above: bool = False
    below: bool = False

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
        kinds = int if self.whole else (int, float)
        if isinstance(number, bool) or not isinstance(number, kinds) or math.isnan(number):
            return False
        low = number > self.least if self.above else number >= self.least
        return low and (number < self.most if self.below else number <= self.most)

    def __str__(self) -> str:
        """The range in words, for error messages."""
        kind = "a whole number" if self.whole else "a number"
        low = f"above {self.least:,g}" if self.above else f"of at least {self.least:,g}"
        return f"{kind} {low} and {'below' if self.below else 'at most'} {_plain(self.most)}"


def _plain(number: float) -> str:
    return f"{number:,.0f}" if number >= 1 else f"{number:g}"


COUNT = Range(1, 10**8, whole=True)
WHOLE = Range(0, 10**8, whole=True)
SIZE = Range(1, 2**16, whole=True)
"""A batch size, or a dimension of a layer."""
WORKERS = Range(0, 256, whole=True)
SEED = Range(0, 2**32 - 1, whole=True)
"""Seeds that numpy, torch and Lightning all accept."""
SHARE = Range(0, 1)
PROBABILITY = Range(0, 1, below=True)
"""The probability of dropping something, which must be below 1."""
POSITIVE = Range(0, 10**9, above=True)
NOT_NEGATIVE = Range(0, 10**9)
