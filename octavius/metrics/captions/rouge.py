"""ROUGE-L, equal to that of the COCO caption scorer."""

from collections.abc import Sequence

from octavius.instruction.sample import References
from octavius.metrics.pairs import Tokens, caption_tokens
from octavius.metrics.records import CaptionRecords, mean
from octavius.metrics.reporting import Weigh, shares

_BETA = 1.2  # weight of recall relative to precision in the F-measure


class RougeL(CaptionRecords):
    """ROUGE-L: F-measure of the longest common subsequence with the references, averaged over texts.

    As in the caption scorer, the best precision and the best recall may come from different references. A
    prediction of None is an empty text and scores 0. Without any update the value is nan, since nothing was
    measured.
    """

    columns = ("rouge_l",)

    def compute(self) -> dict[str, float]:
        """The key rouge_l, from 0 to 1."""
        return {"rouge_l": mean([rouge_l(*pair) for pair in self.records])}

    def weighted(self, predictions: Sequence[str | None], golds: Sequence[References]) -> Weigh:
        """Returns a function from sample weights to the weighted mean."""
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
    """Length of the longest common subsequence of two texts.

    A bit-parallel algorithm (Crochemore et al., 2001): a row of the usual table is one integer, in which a
    bit is 0 where the length grows by one. Each step moves each zero to the earliest match between the
    preceding zero and itself, if there is any, and adds a zero at the earliest match after the last zero.

    >>> common_length("a b c d".split(), "b x d".split())
    2
    """
    positions: dict[str, int] = {}
    for index, token in enumerate(first):
        positions[token] = positions.get(token, 0) | 1 << index
    full = (1 << len(first)) - 1
    row = full
    for token in second:
        matches = row & positions.get(token, 0)
        row = ((row + matches) | (row - matches)) & full
    return len(first) - row.bit_count()
