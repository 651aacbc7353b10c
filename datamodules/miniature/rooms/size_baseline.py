"""Boxes with their classes come in, then boxes alone; the classes that their sizes suggest go out.

What can be told from a box needs no points: a model that does not beat this has learnt nothing of shape.
"""

from collections.abc import Sequence

import numpy as np

Sides = tuple[float, float, float]


class SizeBaseline:
    """Names a box by the class whose mean size, as logarithms, is nearest, in units of the class's own spread."""

    def __init__(self, names: Sequence[str], sides: Sequence[Sides]) -> None:
        """Learns the sizes of every class.

        Args:
            names: the classes of the boxes.
            sides: their widths, depths and heights, metres, in the same order.

        Raises:
            ValueError: no box, or not a name for every box.
        """
        if not names or len(names) != len(sides):
            raise ValueError(
                f"expected a name for each of at least one box, found {len(names)} and {len(sides)}"
            )
        self.classes = sorted(set(names))
        logs, labels = _features(sides), np.array(names)
        groups = [logs[labels == name] for name in self.classes]
        self._means = np.array([group.mean(0) for group in groups])
        overall = logs.std(0) + 0.05
        self._spreads = np.array(
            [(group.std(0) * len(group) + overall) / (len(group) + 1) for group in groups]
        )
        self._shares = np.log([len(group) / len(logs) for group in groups])

    def __call__(self, sides: Sequence[Sides]) -> list[str]:
        """The likeliest class of each box."""
        away = (_features(sides)[:, None] - self._means) / self._spreads
        scores = self._shares - (away**2).sum(2) / 2 - np.log(self._spreads).sum(1)
        return [self.classes[place] for place in scores.argmax(1)]


def _features(sides: Sequence[Sides]) -> np.ndarray:
    """Logarithms of the longer and the shorter side of the footprint, and of the height; so a turn tells nothing."""
    edges = np.maximum(np.array(sides, float).reshape(-1, 3), 1e-3)
    return np.log(np.stack([edges[:, :2].max(1), edges[:, :2].min(1), edges[:, 2]], 1))
