"""Predicted texts and their references come in; the COCO caption scorer's CIDEr-D goes out."""

import json
import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from octavius.instruction.sample import References
from octavius.metrics.ngrams import LONGEST, Ngram, ngram_counts
from octavius.metrics.pairs import Tokens, caption_tokens

_SIGMA = 6.0  # width of the length penalty
_SCALE = 10.0  # a text equal to its only reference, of 4 words or more that are all its own, scores 10


class Cider(Metric):
    """CIDEr-D: mean similarity of texts to their references, each n-gram weighted by how rare it is.

    Rarity is taken from the references of all the evaluated samples, so a value is comparable only on one set
    of samples, and a set of one sample scores 0. A prediction of None is an empty text and scores 0. Without
    any update the value is nan, because nothing was measured.

    Attributes:
        records: bytes: one line of JSON a sample, with its tokens and those of its references. The weights
            are known only when all samples are, so the texts themselves must travel between processes.
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False

    records: list[Tensor]

    def __init__(self, tokenize: bool = True) -> None:
        """Takes raw texts, or with `tokenize=False` texts whose tokens are separated by blanks."""
        super().__init__()
        self.tokenize = tokenize
        self.add_state("records", [], dist_reduce_fx="cat")

    def update(self, predictions: Sequence[str | None], golds: Sequence[References]) -> None:
        """Adds one text, or None, for each gold."""
        pairs = caption_tokens(predictions, golds, self.tokenize)
        self.records.append(self._bytes("".join(json.dumps(pair) + "\n" for pair in pairs)))

    def sync(
        self,
        dist_sync_fn: Callable[..., object] | None = None,
        process_group: object | None = None,
        should_sync: bool = True,
        distributed_available: Callable[..., bool] | None = None,
    ) -> None:
        """Gathers the texts of all processes.

        A process that saw no sample sends no bytes. Left to itself, torchmetrics would send an empty float
        tensor in its place, and tensors of two types cannot be gathered.
        """
        if not len(self.records):
            self.records = [self._bytes("")]
        super().sync(dist_sync_fn, process_group, should_sync, distributed_available)

    def compute(self) -> dict[str, Tensor]:
        """The key cider: 0 to 10, the scorer's own scale (papers print it times 100)."""
        packed = dim_zero_cat(self.records) if len(self.records) else self._bytes("")
        lines = packed.cpu().numpy().tobytes().decode("ascii").splitlines()
        scores = cider_scores([json.loads(line) for line in lines])
        mean = math.fsum(scores) / len(scores) if scores else math.nan
        return {"cider": torch.tensor(mean, dtype=torch.float32, device=self.device)}

    def _bytes(self, text: str) -> Tensor:
        return torch.tensor(list(text.encode("ascii")), dtype=torch.uint8, device=self.device)


@dataclass(frozen=True)
class _Vector:
    """The tf-idf weights of one text, their norm for each n-gram length, and how many bigrams it has."""

    weights: dict[Ngram, float]
    norms: list[float]
    bigrams: int


def cider_scores(samples: Sequence[tuple[Tokens, Sequence[Tokens]]]) -> list[float]:
    """The CIDEr-D of each (candidate, references), with rarity taken from all the references given.

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
    """Multiplies each count by the logarithm of the share of samples whose references lack the n-gram."""
    weights = {gram: n * (math.log(samples) - math.log(max(1, seen_in[gram]))) for gram, n in counts.items()}
    squares = [0.0] * LONGEST
    for gram, weight in weights.items():
        squares[len(gram) - 1] += weight * weight
    bigrams = sum(n for gram, n in counts.items() if len(gram) == 2)
    return _Vector(weights, [math.sqrt(square) for square in squares], bigrams)


def _similarity(candidate: _Vector, reference: _Vector) -> float:
    """Clipped cosine of two texts, averaged over the n-gram lengths, lowered as their lengths differ."""
    overlaps = [0.0] * LONGEST
    for gram, weight in candidate.weights.items():
        other = reference.weights.get(gram, 0.0)
        overlaps[len(gram) - 1] += min(weight, other) * other
    norms = [a * b for a, b in zip(candidate.norms, reference.norms, strict=True)]
    cosines = [overlap / norm if norm else 0.0 for overlap, norm in zip(overlaps, norms, strict=True)]
    # The scorer measures length in bigrams, not in words: a text of one word is as long as an empty one.
    penalty = math.exp(-((candidate.bigrams - reference.bigrams) ** 2) / (2 * _SIGMA**2))
    return penalty * sum(cosines) / LONGEST
