"""Top-1 accuracy of multiple choice and classification."""

import math
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from octavius.instruction.sample import Choice, ClassName
from octavius.metrics.pairs import check_pairs
from octavius.metrics.reporting import Weigh, shares


class ShareOfRight(Metric):
    """Fraction of answers that are right; nan without any answers, since nothing was measured.

    Attributes:
        key: name of the score, also part of the state names: a MetricCollection merges metrics whose states
            have the same names and values.
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False

    def __init__(self, key: str) -> None:
        """Starts without answers."""
        super().__init__()
        self.key = key
        for name in ("right", "total"):
            self.add_state(f"{name}_{key}", torch.tensor(0), dist_reduce_fx="sum")

    @property
    def columns(self) -> tuple[str, ...]:
        """The only key."""
        return (self.key,)

    @property
    def headline(self) -> str:
        """The only key."""
        return self.key

    @property
    def averaged(self) -> tuple[str, ...]:
        """The only key."""
        return (self.key,)

    def is_right(self, prediction: Any, gold: Any) -> bool:
        """Whether one answer is right."""
        raise NotImplementedError

    def weighted(self, predictions: Sequence[Any], golds: Sequence[Any]) -> Weigh:
        """The weighted fraction."""
        pairs = zip(predictions, golds, strict=True)
        return shares({self.key: [float(self.is_right(*pair)) for pair in pairs]})

    def count(self, verdicts: Iterable[bool]) -> None:
        """Adds answers, given whether each is right."""
        found = list(verdicts)
        for name, more in (("right", sum(found)), ("total", len(found))):
            setattr(self, f"{name}_{self.key}", getattr(self, f"{name}_{self.key}") + more)

    def compute(self) -> dict[str, Tensor]:
        """The fraction, under `key`."""
        right, total = (getattr(self, f"{name}_{self.key}").item() for name in ("right", "total"))
        return {self.key: torch.tensor(right / total if total else math.nan, device=self.device)}


class Accuracy(ShareOfRight):
    """Top-1 accuracy, key acc1, of multiple choice (index of an option) and classification (class name).

    A prediction of None is wrong.
    """

    def __init__(self) -> None:
        """Starts without answers."""
        super().__init__("acc1")

    def update(self, predictions: Sequence[int | str | None], golds: Sequence[Choice | ClassName]) -> None:
        """Adds one option index or name, or None, per gold."""
        check_pairs(predictions, golds, Choice, ClassName)
        self.count(self.is_right(*pair) for pair in zip(predictions, golds, strict=True))

    def is_right(self, prediction: int | str | None, gold: Choice | ClassName) -> bool:
        """Whether a prediction equals the gold, as the function `is_right` of this module compares them."""
        return is_right(prediction, gold)


class NameInText(ShareOfRight):
    """Fraction of texts that contain the name of their class anywhere, as counted by the published 3D evaluation.

    The key is acc1_name_in_text. The text is lower-cased, the name is not, and substrings count: "table" is
    right in "tablet", and an answer that lists all classes is right. A prediction of None is wrong.
    """

    def __init__(self) -> None:
        """Starts without answers."""
        super().__init__("acc1_name_in_text")

    def update(self, predictions: Sequence[str | None], golds: Sequence[ClassName]) -> None:
        """Adds one text, or None, per gold."""
        check_pairs(predictions, golds, ClassName)
        self.count(self.is_right(*pair) for pair in zip(predictions, golds, strict=True))

    def is_right(self, prediction: str | None, gold: ClassName) -> bool:
        """Whether the text contains the name."""
        return prediction is not None and gold.name in prediction.lower()


def is_right(prediction: int | str | None, gold: Choice | ClassName) -> bool:
    """Whether a prediction equals the gold; names are compared ignoring case and surrounding whitespace.

    >>> is_right("Golden Retriever ", ClassName("golden retriever", ("golden retriever", "pug")))
    True
    """
    if prediction is None:
        return False
    wanted = int if isinstance(gold, Choice) else str
    if not isinstance(prediction, wanted):
        raise ValueError(
            f"the prediction for a {type(gold).__name__} is a {wanted.__name__}, "
            f"but this one is {prediction!r}; check what the task's parse() returns"
        )
    if isinstance(gold, Choice):
        return prediction == gold.answer
    return str(prediction).strip().casefold() == gold.name.strip().casefold()
