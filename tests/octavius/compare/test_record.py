"""Routing statistics are read correctly from the report of a test."""

import math

import pandas as pd
import pytest

from octavius.compare.record import routing


def report(*rows: tuple[str, str, int, list[float]]) -> pd.DataFrame:
    """The report's table of (task, set, instances, mean weight of each expert)."""
    return pd.DataFrame(
        [
            {
                "task": task,
                "benchmark": name,
                "group": "",
                "expert": expert,
                "instances": count,
                "mean_weight": weight,
                "usage": float(weight > 0),
            }
            for task, name, count, weights in rows
            for expert, weight in enumerate(weights)
        ]
    )


def test_a_gate_that_is_a_classifier_of_tasks() -> None:
    found = routing(report(("a", "x", 30, [1.0, 0.0, 0.0]), ("b", "y", 30, [0.0, 1.0, 0.0])))
    assert found["idle experts"] == 1
    assert found["routing entropy / nats"] == pytest.approx(math.log(2))
    assert found["mutual information of task and expert / nats"] == pytest.approx(math.log(2))


def test_a_gate_that_tells_no_task_from_another() -> None:
    found = routing(report(("a", "x", 10, [0.25, 0.75]), ("b", "y", 50, [0.25, 0.75])))
    assert found["idle experts"] == 0
    assert found["routing entropy / nats"] == pytest.approx(-(0.25 * math.log(0.25) + 0.75 * math.log(0.75)))
    assert found["mutual information of task and expert / nats"] == pytest.approx(0.0)


def test_sets_count_by_their_instances() -> None:
    table = report(("a", "x", 30, [1.0, 0.0]), ("a", "y", 10, [0.0, 1.0]), ("b", "z", 40, [0.5, 0.5]))
    found = routing(table)
    within = (40 * -(0.75 * math.log(0.75) + 0.25 * math.log(0.25)) + 40 * math.log(2)) / 80
    total = -(0.625 * math.log(0.625) + 0.375 * math.log(0.375))
    assert found["mutual information of task and expert / nats"] == pytest.approx(total - within)


def test_groups_of_a_single_task_are_its_tasks() -> None:
    table = report(("a", "x", 30, [1.0, 0.0]), ("a", "y", 30, [0.0, 1.0]))
    table["group"] = ["one", "one", "two", "two"]
    assert routing(table)["mutual information of task and expert / nats"] == pytest.approx(math.log(2))
