"""Predicted texts and their references come in; the COCO caption scorer's ROUGE-L goes out."""

from collections.abc import Sequence

from torch import Tensor

from octavius.instruction.sample import References
from octavius.metrics.pairs import Tokens, caption_tokens
from octavius.metrics.records import CaptionRecords, mean
from octavius.metrics.reporting import Weigh, shares

_BETA = 1.2  # how much more recall weighs than precision


class RougeL(CaptionRecords):
    """ROUGE-L: how much of a text and of its references is one common subsequence of words, meant over texts.

    The largest precision and the largest recall may come from two references, as the caption scorer has it. A
    prediction of None is an empty text and scores 0. Without any update the value is nan, because nothing was
    measured.
    """

    columns = ("rouge_l",)

    def compute(self) -> dict[str, Tensor]:
        """The key rouge_l, a fraction of 1."""
        return self._scores({"rouge_l": mean([rouge_l(*pair) for pair in self.pairs()])})

    def weighted(self, predictions: Sequence[str | None], golds: Sequence[References]) -> Weigh:
        """The mean, by how often each text counts."""
        pairs = caption_tokens(predictions, golds, self.tokenize)
        return shares({"rouge_l": [rouge_l(*pair) for pair in pairs]})


def rouge_l(candidate: Tokens, references: Sequence[Tokens]) -> float:
    """The ROUGE-L of one text.

    >>> round(rouge_l("a red bus stops".split(), ["the red bus".split()]), 3)
    0.587
    """
    common = [common_length(candidate, reference) for reference in references]
    if not any(common):
        return 0.0
    precision = max(common) / len(candidate)
    recall = max(n / len(reference) for n, reference in zip(common, references, strict=True) if n)
    return (1 + _BETA**2) * precision * recall / (recall + _BETA**2 * precision)


def common_length(first: Sequence[str], second: Sequence[str]) -> int:
    """The length of the longest common subsequence of two texts.

    One row of the usual table is kept as the bits of one number: a bit is 0 where the length grows by one
    (Crochemore and others, 2001). Adding carries each match up to the next place where it can grow.

    >>> common_length("a b c d".split(), "b x d".split())
    2
    """
    places: dict[str, int] = {}
    for place, token in enumerate(first):
        places[token] = places.get(token, 0) | 1 << place
    full = (1 << len(first)) - 1
    row = full
    for token in second:
        matches = row & places.get(token, 0)
        row = ((row + matches) | (row - matches)) & full
    return len(first) - row.bit_count()
