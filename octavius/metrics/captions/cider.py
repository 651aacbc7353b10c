"""CIDEr-D, equal to that of the COCO caption scorer."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from octavius.instruction.sample import References
from octavius.metrics.captions.ngrams import LONGEST, Ngram, ngram_counts
from octavius.metrics.pairs import Tokens, caption_tokens
from octavius.metrics.records import CaptionRecords, mean
from octavius.metrics.reporting import Weigh, shares

_SIGMA = 6.0
"""Standard deviation of the Gaussian length penalty."""
_SCALE = 10.0
"""Score of a text of at least four words that equals its only reference, if no other sample has these words."""


class Cider(CaptionRecords):
    """CIDEr-D: mean cosine similarity of texts to their references over tf-idf weighted n-grams.

    Document frequencies come from the references of all evaluated samples, so scores are comparable only on
    the same samples, and a set of one sample scores 0. A prediction of None is an empty text and scores 0.
    Without any update the value is nan, since nothing was measured.
    """

    columns = ("cider",)
    headline = "cider"
    averaged = ("cider",)

    def compute(self) -> dict[str, float]:
        """The key cider: 0 to 10, the scale of the scorer (papers print it times 100)."""
        return {"cider": mean(cider_scores(self.records))}

    def weighted(self, predictions: Sequence[str | None], golds: Sequence[References]) -> Weigh:
        """The weighted mean; idf weights stay those of the whole set."""
        return shares({"cider": cider_scores(caption_tokens(predictions, golds, self.tokenize))})


@dataclass(frozen=True)
class _Vector:
    """The tf-idf weights of a text, their norm for each n-gram length, and its number of bigrams."""

    weights: dict[Ngram, float]
    norms: list[float]
    bigrams: int


def cider_scores(samples: Sequence[tuple[Tokens, Sequence[Tokens]]]) -> list[float]:
    """The CIDEr-D of each (candidate, references), with document frequencies from all these references.

    >>> cider_scores([("a red bus".split(), ["a red bus".split()]), (["dogs"], [["cats"]])])
    [7.5, 0.0]
    """
    candidates = [ngram_counts(candidate) for candidate, _ in samples]
    references = [[ngram_counts(reference) for reference in texts] for _, texts in samples]
    seen_in = Counter(gram for texts in references for gram in set().union(*texts))
    scores = []
    for candidate, texts in zip(candidates, references, strict=True):
        vector = _weigh(candidate, seen_in, len(samples))
        similar = [_similarity(vector, _weigh(text, seen_in, len(samples))) for text in texts]
        scores.append(_SCALE * sum(similar) / len(similar))
    return scores


def _weigh(counts: Counter[Ngram], seen_in: Counter[Ngram], samples: int) -> _Vector:
    """tf-idf weights: counts times log(samples / samples whose references contain the n-gram)."""
    weights = {gram: n * (math.log(samples) - math.log(max(1, seen_in[gram]))) for gram, n in counts.items()}
    squares = [0.0] * LONGEST
    for gram, weight in weights.items():
        squares[len(gram) - 1] += weight * weight
    bigrams = sum(n for gram, n in counts.items() if len(gram) == 2)
    return _Vector(weights, [math.sqrt(square) for square in squares], bigrams)


def _similarity(candidate: _Vector, reference: _Vector) -> float:
    """Clipped cosine similarity, averaged over n-gram lengths, with a penalty on the difference in length."""
    overlaps = [0.0] * LONGEST
    for gram, weight in candidate.weights.items():
        other = reference.weights.get(gram, 0.0)
        overlaps[len(gram) - 1] += min(weight, other) * other
    norms = [a * b for a, b in zip(candidate.norms, reference.norms, strict=True)]
    cosines = [overlap / norm if norm else 0.0 for overlap, norm in zip(overlaps, norms, strict=True)]
    # Like the scorer, measures length in bigrams instead of words: one word is as long as an empty text.
    penalty = math.exp(-((candidate.bigrams - reference.bigrams) ** 2) / (2 * _SIGMA**2))
    return penalty * sum(cosines) / LONGEST
