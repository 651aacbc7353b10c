"""What a metric is, and optional attributes by which it tells tables, comparisons and the bootstrap how to treat it.

Any metric of torchmetrics is one too, since all of these have defaults:

- `columns`: keys shown in the printed table; by default all.
- `headline`: the key that represents the metric where one score per set is compared, as in blind controls; by
  default the first key.
- `averaged`: keys that `octavius compare` includes in the paper's relative average; by default none.
- `weighted(predictions, golds)`: returns the metric as a function of sample weights, for fast bootstrap
  intervals; by default the metric is recomputed on each of 100 resamples.
"""

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from typing import Any, Protocol, TypeAlias

import numpy as np

Weigh: TypeAlias = Callable[[np.ndarray], dict[str, np.ndarray]]
"""Maps weights (W, N) of N samples in W resamples to values (W,) for each key."""


class Metric(Protocol):
    """Scores predictions against golds: `update` with lists of both, once or several times, then `compute`."""

    def update(self, predictions: Any, golds: Any) -> None:
        """Adds one prediction, or None, per gold."""
        ...

    def compute(self) -> Any:
        """The values by key, or a single one, as numbers or as tensors of one."""
        ...

    def reset(self) -> None:
        """Forgets all samples."""
        ...


def measured(metric: Metric, predictions: Sequence[Any], golds: Sequence[Any]) -> dict[str, float]:
    """The values of a metric on these samples alone, whatever it has seen before, by key.

    A single value has the name of the metric's class as its key.
    """
    fresh: Any = deepcopy(metric)
    fresh.reset()
    # A metric of torchmetrics would sum over processes, each of which has all samples.
    fresh.distributed_available_fn = bool
    fresh.update(predictions, golds)
    found = fresh.compute()
    values = found if isinstance(found, Mapping) else {type(metric).__name__: found}
    return {key: float(value) for key, value in values.items()}


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
            drawn = np.repeat(np.arange(len(counts)), counts).tolist()
            rows.append(
                measured(metric, [predictions[index] for index in drawn], [golds[index] for index in drawn])
            )
        return {key: np.array([row[key] for row in rows]) for key in rows[0]} if rows else {}

    return weigh
