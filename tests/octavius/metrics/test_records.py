"""Records of metrics: kept in order, forgotten on request."""

import math
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from octavius.instruction.sample import References
from octavius.metrics.records import CaptionRecords, mean


class Lengths(CaptionRecords):
    """Counts tokens."""

    def compute(self) -> dict[str, float]:
        return {"tokens": mean([len(said) for said, _ in self.records])}


@given(st.lists(st.lists(st.sampled_from(["a", "a dog", "", None]), max_size=3), max_size=4))
def test_records_come_back_in_the_order_of_updates(updates: list[list[str | None]]) -> None:
    metric = Lengths(tokenize=False)
    for texts in updates:
        metric.update(texts, [References(("a cat",))] * len(texts))
    said = [(text or "").split() for texts in updates for text in texts]
    assert metric.records == [(tokens, [["a", "cat"]]) for tokens in said]
    metric.reset()
    assert metric.records == []
    assert math.isnan(metric.compute()["tokens"])


@given(st.lists(st.floats(-1e9, 1e9), min_size=1, max_size=6), st.randoms())
def test_the_mean_does_not_depend_on_the_order(values: list[float], random: Any) -> None:
    mixed = random.sample(values, len(values))
    assert mean(values) == mean(mixed)
    assert math.isnan(mean([]))
