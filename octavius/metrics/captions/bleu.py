"""Corpus BLEU-1 to BLEU-4, equal to those of the COCO caption scorer."""

import math
from collections import Counter
from collections.abc import Sequence

import numpy as np

from octavius.instruction.sample import References
from octavius.metrics.captions.ngrams import LONGEST, Ngram, ngram_counts
from octavius.metrics.pairs import Tokens, caption_tokens
from octavius.metrics.records import CaptionRecords
from octavius.metrics.reporting import Weigh

# As in the COCO scorer, added to numerators and denominators to avoid 0/0. Scores without matches are tiny, not
# exactly 0; without n-grams they are larger: a perfect text of three tokens has a BLEU-4 of 0.03.
_TINY = 1e-15
_SMALL = 1e-9


class Bleu(CaptionRecords):
    """Corpus BLEU: clipped n-gram precision times a brevity penalty.

    The reference length is that of the reference closest in length, the shorter one in a tie. A None
    prediction counts as an empty text: it matches nothing and adds no tokens to the candidate length. Without
    any update the values are nan, since nothing was measured.
    """

    columns = ("bleu1", "bleu4")

    def compute(self) -> dict[str, float]:
        """The keys bleu1 to bleu4, from 0 to 1."""
        scores = bleu_scores(self.records) if self.records else [math.nan] * LONGEST
        return {f"bleu{size}": score for size, score in enumerate(scores, start=1)}

    def weighted(self, predictions: Sequence[str | None], golds: Sequence[References]) -> Weigh:
        """Returns a function from sample weights to BLEU; a weight is the number of times that a text occurs."""
        pairs = caption_tokens(predictions, golds, self.tokenize)
        table = np.array([sentence_counts(*pair) for pair in pairs], float)
        return lambda weights: bleu_of_counts(weights @ table)


def bleu_scores(pairs: Sequence[tuple[Tokens, Sequence[Tokens]]]) -> list[float]:
    """BLEU-1 to BLEU-4 of (candidate, references) pairs as one corpus; sentence BLEU for a single pair.

    >>> [round(score, 3) for score in bleu_scores([("a red bus".split(), ["the red bus".split()])])]
    [0.667, 0.577, 0.0, 0.0]
    """
    return _scores(*_tally(pairs))


def _tally(pairs: Sequence[tuple[Tokens, Sequence[Tokens]]]) -> tuple[list[int], list[int], list[int]]:
    """The summed counts: matched and proposed n-grams by length, and the two text lengths."""
    matched, proposed, lengths = [0] * LONGEST, [0] * LONGEST, [0, 0]
    for candidate, references in pairs:
        matched = [a + b for a, b in zip(matched, clipped_matches(candidate, references), strict=True)]
        proposed = [count + max(0, len(candidate) - k) for k, count in enumerate(proposed)]
        lengths = [lengths[0] + len(candidate), lengths[1] + closest_length(candidate, references)]
    return matched, proposed, lengths


def _scores(matched: Sequence[float], proposed: Sequence[float], lengths: Sequence[float]) -> list[float]:
    """BLEU-1 to BLEU-4 from the counts of `_tally`."""
    ratio = (lengths[0] + _TINY) / (lengths[1] + _SMALL)
    brevity = math.exp(1 - 1 / ratio) if ratio < 1 else 1.0
    scores, product = [], 1.0
    for size, (found, given) in enumerate(zip(matched, proposed, strict=True), start=1):
        product *= (found + _TINY) / (given + _SMALL)
        scores.append(brevity * product ** (1 / size))
    return scores


def sentence_counts(candidate: Tokens, references: Sequence[Tokens]) -> list[int]:
    """The ten counts of one text, additive over a corpus: matched (4), proposed (4) and the two lengths."""
    matched, proposed, lengths = _tally([(candidate, references)])
    return [*matched, *proposed, *lengths]


def bleu_of_counts(counts: np.ndarray) -> dict[str, np.ndarray]:
    """BLEU-1 to BLEU-4 (W,) from summed `sentence_counts` (W, 10), by key."""
    rows = [_scores(row[:LONGEST], row[LONGEST:-2], row[-2:]) for row in counts.tolist()]
    return {f"bleu{size}": np.array(column) for size, column in enumerate(zip(*rows, strict=True), start=1)}


def closest_length(candidate: Tokens, references: Sequence[Tokens]) -> int:
    """Length of the reference that is closest in length, the shorter one in a tie.

    >>> closest_length(["a", "b"], [["a"], ["a", "b", "c"]])
    1
    """
    return min((len(reference) for reference in references), key=lambda n: (abs(n - len(candidate)), n))


def clipped_matches(candidate: Tokens, references: Sequence[Tokens]) -> list[int]:
    """For each n-gram length, the candidate's n-grams, each counted at most as often as in any one reference.

    >>> clipped_matches("the the cat".split(), ["the cat sat".split(), "a cat".split()])
    [2, 1, 0, 0]
    """
    allowed: Counter[Ngram] = Counter()
    for reference in references:
        allowed |= ngram_counts(reference)
    matches = [0] * LONGEST
    for gram, count in (ngram_counts(candidate) & allowed).items():
        matches[len(gram) - 1] += count
    return matches
