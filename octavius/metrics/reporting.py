"""What a metric says about itself to those who print, compare and resample it.

All of it is optional, so that any metric of torchmetrics can be a metric of a task:

- `columns`: keys that the printed table shows; without it all keys are shown.
- `headline`: the one key that stands for the metric where one score a set is compared, as in blind controls; without
  it the first key.
- `averaged`: keys that `octavius compare` takes into the paper's relative average; without it none.
- `weighted(predictions, golds)`: the metric as a function of how often each sample counts, from which its bootstrap
  interval is made quickly. Without it the metric is computed anew on each of 100 resampled data sets.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
from torchmetrics import Metric

Weigh: TypeAlias = Callable[[np.ndarray], dict[str, np.ndarray]]
"""Maps weights (W, N) of N samples in W resampled data sets to values (W,) of each key."""


def columns(metric: Metric) -> tuple[str, ...] | None:
    """Keys that the table shows; None shows all."""
    return getattr(metric, "columns", None)


def headline(metric: Metric) -> str | None:
    """The key that stands for the metric; None where it does not say."""
    return getattr(metric, "headline", None)


def averaged(metric: Metric) -> tuple[str, ...]:
    """Keys that are averaged over sets."""
    return getattr(metric, "averaged", ())


def shares(parts: Mapping[str, Sequence[float]], whole: Sequence[float] | None = None) -> Weigh:
    """Sums of parts over the sum of a whole, by default of one for each sample."""
    table = np.array(list(parts.values()), float).T

    def weigh(weights: np.ndarray) -> dict[str, np.ndarray]:
        counts = weights.sum(1) if whole is None else weights @ np.array(whole, float)
        with np.errstate(divide="ignore", invalid="ignore"):
            values = (weights @ table) / counts[:, None]
        return dict(zip(parts, values.T, strict=True))

    return weigh


def replayed(metric: Metric, predictions: Sequence[Any], golds: Sequence[Any]) -> Weigh:
    """Computes a metric anew on each resampled data set, for metrics that say nothing quicker."""

    def weigh(weights: np.ndarray) -> dict[str, np.ndarray]:
        rows = []
        for counts in weights.astype(int):
            fresh = metric.clone()
            fresh.reset()
            fresh.distributed_available_fn = _alone
            drawn = np.repeat(np.arange(len(counts)), counts).tolist()
            fresh.update([predictions[index] for index in drawn], [golds[index] for index in drawn])
            found = fresh.compute()
            # As `MetricCollection` names what is no dictionary.
            rows.append(found if isinstance(found, Mapping) else {type(metric).__name__: found})
        return {key: np.array([float(row[key]) for row in rows]) for key in rows[0]} if rows else {}

    return weigh


def _alone() -> bool:
    """That there are no other processes: every process holds all samples here."""
    return False
