"""BLEU equals the reference scorer, torchmetrics, and sums by hand."""

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from torchmetrics.text import BLEUScore

from octavius.instruction.sample import References
from octavius.metrics import Bleu

words = st.lists(st.sampled_from("abc"), min_size=4, max_size=9).map(" ".join)


def bleu(predictions: list[str | None], references: list[list[str]]) -> list[float]:
    metric = Bleu(tokenize=False)
    metric.update(predictions, [References(tuple(texts)) for texts in references])
    return [metric.compute()[f"bleu{size}"] for size in range(1, 5)]


@pytest.mark.parametrize(("kind", "tokenize"), [("tokenised", False), ("raw", True)])
def test_equals_the_reference_scorer(scored: Any, kind: str, tokenize: bool) -> None:
    metric = Bleu(tokenize=tokenize)
    metric.update(*getattr(scored, kind))
    found = [metric.compute()[f"bleu{size}"] for size in range(1, 5)]
    assert found == pytest.approx(scored.scores["Bleu"], abs=1e-6)


@given(st.lists(st.tuples(words, words), min_size=1, max_size=4))
def test_equals_torchmetrics_where_every_length_has_a_match(pairs: list[tuple[str, str]]) -> None:
    predictions, references = [pair[0] for pair in pairs], [[pair[1]] for pair in pairs]
    for size, found in enumerate(bleu(list(predictions), references), start=1):
        other = BLEUScore(n_gram=size)
        expected = other(predictions, references).item()
        if expected > 0:
            assert found == pytest.approx(expected, abs=1e-5)
        else:
            assert found < 1e-3


def test_short_predictions_pay_for_brevity() -> None:
    # both words are right, but the reference has four: exp(1 - 4 / 2)
    assert bleu(["a b"], [["a b c d"]])[:2] == pytest.approx([math.exp(-1), math.exp(-1)])


def test_the_closest_reference_sets_the_length_and_the_shorter_of_two_equally_close_ones() -> None:
    assert bleu(["a b"], [["a b c d e", "a b c"]])[0] == pytest.approx(math.exp(1 - 3 / 2))
    assert bleu(["a b"], [["a b c", "a"]])[0] == pytest.approx(1.0)


def test_precision_is_of_the_corpus_and_repeated_words_are_clipped() -> None:
    # 2 of the 3 "a" are allowed, 1 of 1 "b": 3 of 4 words, not the mean of 2/3 and 1
    assert bleu(["a a a", "b"], [["a a c"], ["b"]])[0] == pytest.approx(3 / 4)


@given(st.lists(words, min_size=1, max_size=5))
def test_a_perfect_prediction_scores_one(texts: list[str]) -> None:
    assert bleu(list(texts), [["z", text] for text in texts]) == pytest.approx([1.0] * 4, abs=1e-6)


def test_missing_predictions_score_zero_and_lower_the_rest() -> None:
    assert bleu([None, None], [["a b c d"], ["a"]]) == [0.0] * 4
    assert bleu(["a b c d", None], [["a b c d"], ["e f"]])[0] == pytest.approx(math.exp(1 - 6 / 4))
