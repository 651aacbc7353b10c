"""Counts in Prometheus' format: a cumulative histogram of answered questions, and every response by status."""

from collections import Counter
from types import SimpleNamespace
from typing import Any

import pytest

from octavius.serve.metrics import BOUNDS, Metrics


def test_durations_fall_into_cumulative_buckets() -> None:
    engine: Any = SimpleNamespace(running=2, waiting=3, counts=Counter(tokens=7))
    metrics, chat = Metrics(engine), "/v1/chat/completions"
    seconds = [0.05, 0.2, 0.2, 5.0, 1000.0]
    for each in seconds:
        metrics.note(chat, 200, each)
    metrics.note(chat, 400, 0.01)  # not answered, so in no bucket
    metrics.note("/health", 200, 0.01)
    values = dict(line.rsplit(" ", 1) for line in metrics.text().splitlines() if not line.startswith("#"))
    for bound in BOUNDS:
        below = sum(each <= bound for each in seconds)
        assert values[f'octavius_answer_seconds_bucket{{le="{bound}"}}'] == str(below)
    assert (
        values['octavius_answer_seconds_bucket{le="+Inf"}'] == values["octavius_answer_seconds_count"] == "5"
    )
    assert float(values["octavius_answer_seconds_sum"]) == pytest.approx(sum(seconds))
    assert values[f'octavius_requests_total{{route="{chat}",status="400"}}'] == "1"
    assert (values["octavius_running_rows"], values["octavius_waiting_rows"]) == ("2", "3")
    assert (values["octavius_tokens_total"], values["octavius_rows_total"]) == ("7", "0")
