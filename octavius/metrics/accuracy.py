"""Top-1 accuracy of multiple choice and classification."""

from collections.abc import Sequence
from typing import Any

from octavius.instruction.sample import Choice, ClassName
from octavius.metrics.pairs import check_pairs
from octavius.metrics.records import Records, mean
from octavius.metrics.reporting import Weigh, shares


class ShareOfRight(Records):
    """Fraction of answers that are right; nan without any answers, since nothing was measured.

    The records say of each answer whether it is right.

    Attributes:
        key: name of the score.
    """

    def __init__(self, key: str) -> None:
        """Starts without answers."""
        super().__init__()
        self.key = key

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

    def compute(self) -> dict[str, float]:
        """The fraction, under `key`."""
        return {self.key: mean(self.records)}


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
        self.records += [self.is_right(*pair) for pair in zip(predictions, golds, strict=True)]

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
        self.records += [self.is_right(*pair) for pair in zip(predictions, golds, strict=True)]

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
