"""Accuracy of choices and class names."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from octavius.instruction.sample import Choice, ClassName
from octavius.metrics import Accuracy

PETS = ("Cat", "dog", "golden retriever")


def accuracy(predictions: list[int | str | None], golds: list[Choice | ClassName]) -> float:
    metric = Accuracy()
    metric.update(predictions, golds)
    return metric.compute()["acc1"]


@given(st.lists(st.tuples(st.none() | st.integers(0, 2), st.integers(0, 2)), min_size=1))
def test_equals_a_count_by_hand_for_options_and_for_names(answers: list[tuple[int | None, int]]) -> None:
    expected = sum(given == right for given, right in answers) / len(answers)
    choices: list[Choice | ClassName] = [Choice(PETS, right) for _, right in answers]
    names: list[Choice | ClassName] = [ClassName(PETS[right], PETS) for _, right in answers]
    assert accuracy([given for given, _ in answers], choices) == pytest.approx(expected)
    spoken = [None if given is None else PETS[given] for given, _ in answers]
    assert accuracy(list(spoken), names) == pytest.approx(expected)


def test_names_are_compared_whole_but_in_any_case() -> None:
    golds: list[Choice | ClassName] = [ClassName("Cat", PETS)]
    assert accuracy([" cat"], golds) == 1.0
    assert accuracy(["catfish"], golds) == 0.0


def test_an_answer_of_the_wrong_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="prediction for a Choice is a int, but this one is 'dog'"):
        accuracy(["dog"], [Choice(PETS, 1)])
    with pytest.raises(ValueError, match="prediction for a ClassName is a str, but this one is 1"):
        accuracy([1], [ClassName("dog", PETS)])
