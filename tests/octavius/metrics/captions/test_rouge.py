"""ROUGE-L equals the reference scorer and a recursive search."""

from functools import cache
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from octavius.instruction.sample import References
from octavius.metrics import RougeL
from octavius.metrics.captions.rouge import common_length, rouge_l

texts = st.lists(st.sampled_from("abcd"), max_size=9)
full = st.lists(st.sampled_from("abcd"), min_size=1, max_size=9)


def slow_length(first: list[str], second: list[str]) -> int:
    """The longest common subsequence: take both last words where they are equal, else leave out one of them."""

    @cache
    def longest(i: int, j: int) -> int:
        if i == 0 or j == 0:
            return 0
        if first[i - 1] == second[j - 1]:
            return longest(i - 1, j - 1) + 1
        return max(longest(i - 1, j), longest(i, j - 1))

    return longest(len(first), len(second))


def rouge(predictions: list[str | None], references: list[list[str]]) -> float:
    metric = RougeL(tokenize=False)
    metric.update(predictions, [References(tuple(one)) for one in references])
    return metric.compute()["rouge_l"]


@pytest.mark.parametrize(("kind", "tokenize"), [("tokenised", False), ("raw", True)])
def test_equals_the_reference_scorer(scored: Any, kind: str, tokenize: bool) -> None:
    metric = RougeL(tokenize=tokenize)
    metric.update(*getattr(scored, kind))
    assert metric.compute()["rouge_l"] == pytest.approx(scored.scores["ROUGE_L"], abs=1e-6)


@given(texts, texts)
def test_common_length_equals_a_search_by_recursion(first: list[str], second: list[str]) -> None:
    assert common_length(first, second) == slow_length(first, second)


def test_long_texts_are_compared_too() -> None:
    first, second = ["a", "b", "c"] * 100, ["c", "b", "a"] * 100
    assert common_length(first, second) == slow_length(first, second)


@given(texts, st.lists(full, min_size=1, max_size=3))
def test_the_best_precision_and_the_best_recall_may_come_from_two_references(
    candidate: list[str], references: list[list[str]]
) -> None:
    lengths = [slow_length(candidate, reference) for reference in references]
    if not any(lengths):
        assert rouge_l(candidate, references) == 0
        return
    precision = max(length / len(candidate) for length in lengths)
    recall = max(length / len(reference) for length, reference in zip(lengths, references, strict=True))
    assert rouge_l(candidate, references) == pytest.approx(
        (1 + 1.44) / (1 / precision + 1.44 / recall)  # the weighted harmonic mean, with 1.2 squared
    )


def test_the_score_is_the_mean_over_texts() -> None:
    # "a b" in "a b c d": precision 1, recall 1/2
    half = 2.44 / (1 + 1.44 * 2)
    assert rouge(["a b", "x", "a"], [["a b c d"], ["y"], ["a"]]) == pytest.approx((half + 0 + 1) / 3)


@given(full, st.lists(full, max_size=2))
def test_a_text_equal_to_a_reference_scores_one(text: list[str], others: list[list[str]]) -> None:
    assert rouge_l(text, [*others, text]) == pytest.approx(1)


def test_missing_texts_score_zero() -> None:
    assert rouge([None, "", "a"], [["a"], ["a"], [" "]]) == 0
