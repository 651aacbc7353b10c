"""Base of metrics: what each sample contributes is recorded, and the values are computed from all records."""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

from octavius.instruction.sample import References
from octavius.metrics.pairs import Tokens, caption_tokens


class Records(ABC):
    """A metric that is computed from the records of all samples.

    The interface is that of a metric of torchmetrics, without its import of PyTorch, so that `octavius score` answers
    at once. To score the samples of several processes, put the records of all together first.

    Attributes:
        records: what `update` kept of each sample, in order.
    """

    def __init__(self) -> None:
        """Starts without records."""
        self.records: list[Any] = []

    def reset(self) -> None:
        """Forgets all records."""
        self.records = []

    @abstractmethod
    def update(self, predictions: Sequence[Any], golds: Sequence[Any]) -> None:
        """Adds one prediction, or None, per gold.

        Raises:
            ValueError: there are more of the ones than of the others, or a gold is of a type that is not scored.
        """

    @abstractmethod
    def compute(self) -> dict[str, float]:
        """The values of all samples so far, by key; nan without any, since nothing was measured."""


class CaptionRecords(Records):
    """A metric of predicted texts and their references.

    The records are the tokens of each text and of each of its references.
    """

    def __init__(self, tokenize: bool = True) -> None:
        """Takes raw texts, or with `tokenize=False` texts whose tokens are separated by spaces."""
        super().__init__()
        self.tokenize = tokenize
        self.records: list[tuple[Tokens, list[Tokens]]]

    def update(self, predictions: Sequence[str | None], golds: Sequence[References]) -> None:
        """Adds one text, or None, per gold."""
        self.records += caption_tokens(predictions, golds, self.tokenize)


def mean(values: Sequence[float]) -> float:
    """The arithmetic mean, independent of the order; nan for an empty sequence, since nothing was measured.

    >>> mean([0.5, 1.0])
    0.75
    """
    return math.fsum(values) / len(values) if values else math.nan
