"""Bootstrap intervals of metrics.

Bootstrap (Efron, 1979): images or scenes are drawn anew, as many as there are, with replacement, each with all its
samples; an interval holds the middle 95 % of the values on such draws. Instead of scoring every draw anew, a sample
counts as often as its image was drawn. The weights of CIDEr's words stay those of the whole set.
"""

from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
from torchmetrics import Metric

from octavius.metrics.reporting import Weigh, replayed

LEVEL = 0.95
AT_ONCE = 100
"""Draws that are held in memory together."""


def intervals(
    metrics: Sequence[Metric],
    predictions: Sequence[Any],
    golds: Sequence[Any],
    units: Sequence[Hashable],
    draws: int = 1000,
    seed: int = 0,
) -> dict[str, tuple[float, float]]:
    """The 95 % interval of every key of the metrics; none for a single unit, which tells nothing of others.

    Args:
        metrics: of the task and protocol; what they hold is not looked at.
        predictions: N parsed answers.
        golds: N.
        units: for each sample what is drawn with all its samples, such as its image.
        draws: resampled data sets; metrics that cannot be weighted are computed anew on the first 100.
        seed: of the draws.
    """
    numbers = {unit: place for place, unit in enumerate(dict.fromkeys(units))}
    if len(numbers) < 2:
        return {}
    places = np.array([numbers[unit] for unit in units])
    ways: list[Any] = [getattr(metric, "weighted", None) for metric in metrics]
    quick: list[Weigh] = [weighted(predictions, golds) for weighted in ways if weighted is not None]
    silent = [metric for metric, weighted in zip(metrics, ways, strict=True) if weighted is None]
    slow = [replayed(metric, predictions, golds) for metric in silent]
    generator = np.random.default_rng(seed)
    values: dict[str, list[np.ndarray]] = {}
    for start in range(0, draws, AT_ONCE):
        size = (min(AT_ONCE, draws - start), len(numbers))
        drawn = generator.multinomial(len(numbers), np.full(len(numbers), 1 / len(numbers)), size[0])
        weights = drawn[:, places].astype(float)
        for weigh in quick if start else [*quick, *slow]:
            for key, row in weigh(weights).items():
                values.setdefault(key, []).append(row)
    tail = 100 * (1 - LEVEL) / 2
    found = {}
    for key, rows in values.items():
        known = np.concatenate(rows)
        known = known[~np.isnan(known)]
        if len(known):
            low, high = np.percentile(known, [tail, 100 - tail])
            found[key] = (float(low), float(high))
    return found
