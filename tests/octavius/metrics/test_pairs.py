"""Predictions and golds that do not belong together are refused."""

import pytest

from octavius.instruction.sample import Choice, ClassName, References
from octavius.metrics.pairs import caption_tokens, check_pairs


def test_as_many_golds_as_predictions_of_a_kind_that_is_scored() -> None:
    golds = [Choice(("a",), 0), ClassName("a", ("a",))]
    check_pairs([0, None], golds, Choice, ClassName)
    with pytest.raises(ValueError, match="got 1 predictions and 2 golds"):
        check_pairs([0], golds, Choice, ClassName)
    with pytest.raises(
        ValueError, match="gold 1 is a ClassName, but this metric scores Choice or References"
    ):
        check_pairs([0, 0], golds, Choice, References)


def test_captions_are_tokens_with_those_of_their_references() -> None:
    golds = [References(("A dog, running.", "one dog")), References(("a cat",))]
    expected = [(["a", "dog"], [["a", "dog", "running"], ["one", "dog"]]), ([], [["a", "cat"]])]
    assert caption_tokens(["A dog!", None], golds, tokenize=True) == expected
    assert caption_tokens(["A dog !"], golds[1:], tokenize=False) == [(["A", "dog", "!"], [["a", "cat"]])]
    with pytest.raises(ValueError, match="gold 1 has no reference text"):
        caption_tokens(["a", "b"], [golds[1], References(())], tokenize=True)
