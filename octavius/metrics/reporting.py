"""Optional attributes by which a metric tells tables, comparisons and the bootstrap how to treat it.

Any metric of torchmetrics can be a metric of a task, since all of these have defaults:

- `columns`: keys shown in the printed table; by default all.
- `headline`: the key that represents the metric where one score per set is compared, as in blind controls; by
  default the first key.
- `averaged`: keys that `octavius compare` includes in the paper's relative average; by default none.
- `weighted(predictions, golds)`: returns the metric as a function of sample weights, for fast bootstrap
  intervals; by default the metric is recomputed on each of 100 resamples.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
from torchmetrics import Metric

Weigh: TypeAlias = Callable[[np.ndarray], dict[str, np.ndarray]]
"""Maps weights (W, N) of N samples in W resamples to values (W,) for each key."""


def columns(metric: Metric) -> tuple[str, ...] | None:
    """Keys shown in the table; None for all."""
    return getattr(metric, "columns", None)


def headline(metric: Metric) -> str | None:
    """The key that represents the metric; None if not declared."""
    return getattr(metric, "headline", None)


def averaged(metric: Metric) -> tuple[str, ...]:
    """Keys that enter the relative average of `octavius compare`."""
    return getattr(metric, "averaged", ())


def shares(parts: Mapping[str, Sequence[float]], whole: Sequence[float] | None = None) -> Weigh:
    """Weighted ratios: the sums of some parts, each divided by the sum of a whole (by default 1 per sample).

    Args:
        parts: key to the numerators of N samples.
        whole: denominators of N samples.
    """
    table = np.array(list(parts.values()), float).T

    def weigh(weights: np.ndarray) -> dict[str, np.ndarray]:
        counts = weights.sum(1) if whole is None else weights @ np.array(whole, float)
        with np.errstate(divide="ignore", invalid="ignore"):
            values = (weights @ table) / counts[:, None]
        return dict(zip(parts, values.T, strict=True))

    return weigh


def replayed(metric: Metric, predictions: Sequence[Any], golds: Sequence[Any]) -> Weigh:
    """Recomputes a metric on each resample, for metrics without `weighted`."""

    def weigh(weights: np.ndarray) -> dict[str, np.ndarray]:
        rows = []
        for counts in weights.astype(int):
            fresh = metric.clone()
            fresh.reset()
            fresh.distributed_available_fn = _alone
            drawn = np.repeat(np.arange(len(counts)), counts).tolist()
            fresh.update([predictions[index] for index in drawn], [golds[index] for index in drawn])
            found = fresh.compute()
            # MetricCollection uses the class name as the key of a single value.
            rows.append(found if isinstance(found, Mapping) else {type(metric).__name__: found})
        return {key: np.array([float(row[key]) for row in rows]) for key in rows[0]} if rows else {}

    return weigh


def _alone() -> bool:
    """Always False: tells torchmetrics not to reduce over ranks, since each has all samples."""
    return False
