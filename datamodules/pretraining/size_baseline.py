"""Baseline that classifies objects by the size of their boxes alone.

It does not see the points, so a model that is no better than it has learned nothing about shapes.
"""

from collections.abc import Sequence

import numpy as np

Sides = tuple[float, float, float]


class SizeBaseline:
    """Gaussian classifier on the logarithms of a box's sides, with diagonal covariance and class priors."""

    def __init__(self, names: Sequence[str], sides: Sequence[Sides]) -> None:
        """Fits the classifier.

        Args:
            names: class of each box.
            sides: width, depth and height of each box in metres.

        Raises:
            ValueError: there is no box, or not one name per box.
        """
        if not names or len(names) != len(sides):
            raise ValueError(
                f"expected a name for each of at least one box, found {len(names)} and {len(sides)}"
            )
        self.classes = sorted(set(names))
        logs, labels = _features(sides), np.array(names)
        groups = [logs[labels == name] for name in self.classes]
        self._means = np.array([group.mean(0) for group in groups])
        # The standard deviation of a class with few boxes is drawn towards that of all boxes.
        overall = logs.std(0) + 0.05
        self._spreads = np.array(
            [(group.std(0) * len(group) + overall) / (len(group) + 1) for group in groups]
        )
        self._log_priors = np.log([len(group) / len(logs) for group in groups])

    def __call__(self, sides: Sequence[Sides]) -> list[str]:
        """The most likely class of each box."""
        deviations = (_features(sides)[:, None] - self._means) / self._spreads
        scores = self._log_priors - (deviations**2).sum(2) / 2 - np.log(self._spreads).sum(1)
        return [self.classes[index] for index in scores.argmax(1)]


def _features(sides: Sequence[Sides]) -> np.ndarray:
    """Logarithms (N, 3) of the longer side, the shorter side and the height: invariant to quarter turns."""
    edges = np.maximum(np.array(sides, float).reshape(-1, 3), 1e-3)
    return np.log(np.stack([edges[:, :2].max(1), edges[:, :2].min(1), edges[:, 2]], 1))
