"""CIDEr equals the reference scorer, image by image, and sums by hand."""

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from octavius.instruction.sample import References
from octavius.metrics import Cider
from octavius.metrics.captions.cider import cider_scores


def cider(predictions: list[str | None], references: list[list[str]]) -> float:
    metric = Cider()
    metric.update(predictions, [References(tuple(texts)) for texts in references])
    return metric.compute()["cider"]


@pytest.mark.parametrize(("kind", "tokenize"), [("tokenised", False), ("raw", True)])
def test_equals_the_reference_scorer(scored: Any, kind: str, tokenize: bool) -> None:
    metric = Cider(tokenize=tokenize)
    metric.update(*getattr(scored, kind))
    assert metric.compute()["cider"] == pytest.approx(scored.scores["CIDEr"], abs=1e-6)


def test_equals_the_reference_scorer_image_by_image(scored: Any) -> None:
    pairs = zip(*scored.tokenised, strict=True)
    found = cider_scores([(text.split(), [one.split() for one in gold.texts]) for text, gold in pairs])
    expected = scored.scores["CIDEr_per_image"]
    assert dict(zip(scored.images, found, strict=True)) == pytest.approx(expected, abs=1e-6)


@given(st.lists(st.integers(1, 7), min_size=2, max_size=6))
def test_a_perfect_text_of_words_all_its_own_scores_a_quarter_of_ten_for_each_ngram_length(
    lengths: list[int],
) -> None:
    texts = [" ".join(f"word{i}x{k}" for k in range(length)) for i, length in enumerate(lengths)]
    expected = sum(2.5 * min(4, length) for length in lengths) / len(lengths)
    assert cider(list(texts), [[text] for text in texts]) == pytest.approx(expected, rel=1e-6)


def test_several_references_are_averaged_and_length_is_penalised_in_bigrams() -> None:
    # Each n-gram is in one of the two samples, so all weigh the same and the weights cancel. "red bus" scores
    # 5 of 10 against itself; "red bus of ours" shares 2 of 4 words, 1 of 3 bigrams, and has 2 bigrams more.
    one_word, two_words = 2 / math.sqrt(2 * 4), 1 / math.sqrt(1 * 3)
    far = 10 * (one_word + two_words) / 4 * math.exp(-(2**2) / (2 * 6**2))
    assert cider(["red bus", None], [["red bus", "red bus of ours"], ["cats"]]) == pytest.approx(
        ((5 + far) / 2 + 0) / 2, rel=1e-6
    )


def test_words_in_the_references_of_every_sample_count_for_nothing() -> None:
    references = [["a b", "c"], ["b d"]]
    assert cider(["b", "b"], references) == 0.0
    assert cider(["a", "d"], references) > 0.0


def test_missing_predictions_score_zero_but_their_references_still_weigh() -> None:
    assert cider([None, None], [["a dog runs"], ["a cat"]]) == 0.0
    # with the second sample "dog" tells nothing, whether or not that sample was answered
    assert cider(["dog", None], [["dog"], ["dog"]]) == 0.0


def test_one_sample_is_zero() -> None:
    assert cider(["a dog runs home"], [["a dog runs home"]]) == 0.0
