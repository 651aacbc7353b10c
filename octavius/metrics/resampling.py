"""Bootstrap confidence intervals of metrics.

Bootstrap (Efron, 1979): images or scenes are resampled with replacement, each with all its samples; the
interval is the middle 95 % of the values on such resamples. For speed, samples get integer weights (how often
their image was drawn) instead of being scored again. The idf weights of CIDEr stay those of the whole set.
"""

from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np

from octavius.metrics.reporting import Metric, Weigh, replayed

LEVEL = 0.95
AT_ONCE = 100
"""Number of resamples in memory at a time; also how many a metric without `weighted` is recomputed on."""


def intervals(
    metrics: Sequence[Metric],
    predictions: Sequence[Any],
    golds: Sequence[Any],
    units: Sequence[Hashable],
    draws: int = 1000,
    seed: int = 0,
) -> dict[str, tuple[float, float]]:
    """The 95 % interval of every key of the metrics; empty if there is only one unit to resample.

    Args:
        metrics: metrics of the task and protocol; their state is ignored.
        predictions: N parsed answers.
        golds: N golds.
        units: for each sample the unit that is resampled as a whole, such as its image.
        draws: number of resamples; metrics without `weighted` are recomputed on the first `AT_ONCE` only.
        seed: seed of the resampling.
    """
    numbers = {unit: index for index, unit in enumerate(dict.fromkeys(units))}
    if len(numbers) < 2:
        return {}
    indices = np.array([numbers[unit] for unit in units])
    functions: list[Any] = [getattr(metric, "weighted", None) for metric in metrics]
    quick: list[Weigh] = [weighted(predictions, golds) for weighted in functions if weighted is not None]
    slow = [
        replayed(metric, predictions, golds)
        for metric, weighted in zip(metrics, functions, strict=True)
        if weighted is None
    ]
    generator = np.random.default_rng(seed)
    values: dict[str, list[np.ndarray]] = {}
    for start in range(0, draws, AT_ONCE):
        size = (min(AT_ONCE, draws - start), len(numbers))
        drawn = generator.multinomial(len(numbers), np.full(len(numbers), 1 / len(numbers)), size[0])
        weights = drawn[:, indices].astype(float)
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
