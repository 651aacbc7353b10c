"""Records of metrics: kept as bytes, in order, whatever precision the metric is cast to."""

import math
from typing import Any

import torch
from hypothesis import given
from hypothesis import strategies as st

from octavius.metrics.records import Records, mean

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(), lambda inner: st.lists(inner, max_size=3)
)


@given(st.lists(st.lists(JSON, max_size=3), max_size=4))
def test_records_come_back_in_the_order_of_updates(updates: list[list[Any]]) -> None:
    metric = Records("things")
    for records in updates:
        metric.keep(records)
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
