"""Steps of a running batch: who has ended, whose token is sampled, and weights of rows as weights of the batch."""

from types import SimpleNamespace
from typing import Any

import torch

from octavius.serve.steps import Sampling, Step, stacked


def test_each_row_is_asked_with_its_new_token() -> None:
    taken: list[list[int]] = []

    def take(tokens: list[int]) -> list[bool]:
        taken.append(tokens)
        return [token == 0 for token in tokens]

    ended = Step(take)(torch.tensor([[5, 0], [6, 7]]), None)
    assert taken == [[0, 7]]
    assert ended.tolist() == [True, False]


def test_only_rows_with_a_temperature_are_sampled() -> None:
    def row(temperature: float, done: bool = False) -> Any:
        return SimpleNamespace(
            question=SimpleNamespace(temperature=temperature),
            done=done,
            choose=lambda scores: len(scores) - 1,
        )

    scores = torch.tensor([[3.0, 1.0, 2.0]] * 3)
    found = Sampling([row(0.0), row(0.7), row(0.7, done=True)])(torch.zeros(3, 1), scores)
    assert found.argmax(1).tolist() == [0, 2, 0]
    assert torch.equal(found[[0, 2]], scores[[0, 2]])
    assert scores[1].tolist() == [3.0, 1.0, 2.0]  # the given scores stay


def test_weights_of_rows_become_those_of_the_batch() -> None:
    first, second = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.5, 0.5]])
    assert stacked([None, None]) is None
    both = stacked([first, second])
    assert isinstance(both, torch.Tensor)
    assert both.tolist() == [[1.0, 0.0], [0.5, 0.5]]
    by_depth = stacked([[first, second], [second, first]])
    assert isinstance(by_depth, list)
    assert [part.tolist() for part in by_depth] == [[[1.0, 0.0], [0.5, 0.5]], [[0.5, 0.5], [1.0, 0.0]]]
