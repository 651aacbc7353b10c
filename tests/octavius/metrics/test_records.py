"""Records of metrics: kept as bytes, in order, whatever precision the metric is cast to."""

import math
from typing import Any

import torch
from hypothesis import given
from hypothesis import strategies as st

from octavius.metrics.records import Records, mean

JSON = st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.lists(st.integers(), max_size=2)


class Things(Records):
    """Keeps what it is given."""

    def update(self, records: list[Any]) -> None:
        self.keep(records)

    def compute(self) -> list[Any]:
        return self.kept()


@given(st.lists(st.lists(JSON, max_size=3), max_size=4))
def test_records_come_back_in_the_order_of_updates(updates: list[list[Any]]) -> None:
    metric = Things("things")
    for records in updates:
        metric.update(records)
    everything = [record for records in updates for record in records]
    assert metric.kept() == everything
    metric.half()
    assert metric.kept() == everything
    assert all(part.dtype is torch.uint8 for part in getattr(metric, metric.state))
    metric.reset()
    assert metric.kept() == []


@given(st.lists(st.floats(-1e9, 1e9), min_size=1, max_size=6), st.randoms())
def test_the_mean_does_not_depend_on_the_order(values: list[float], random: Any) -> None:
    mixed = random.sample(values, len(values))
    assert mean(values) == mean(mixed)
    assert math.isnan(mean([]))
