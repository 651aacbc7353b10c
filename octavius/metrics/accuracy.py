"""Chosen options or names and the right ones come in; the share that is right goes out."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torchmetrics import Metric

from octavius.instruction.sample import Choice, ClassName
from octavius.metrics.pairs import check_pairs


class Accuracy(Metric):
    """Top-1 accuracy of multiple choice (the index of an option) and of classification (a name).

    A prediction of None is wrong. Without any update the value is nan, because nothing was measured.

    Attributes:
        right: predictions equal to their gold.
        total: how many predictions were scored.
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False

    right: Tensor
    total: Tensor

    def __init__(self) -> None:
        """Starts from no answers."""
        super().__init__()
        for name in ("right", "total"):
            self.add_state(name, torch.tensor(0), dist_reduce_fx="sum")

    def update(self, predictions: Sequence[int | str | None], golds: Sequence[Choice | ClassName]) -> None:
        """Adds one option index or name, or None, for each gold."""
        check_pairs(predictions, golds, Choice, ClassName)
        self.right += sum(is_right(*pair) for pair in zip(predictions, golds, strict=True))
        self.total += len(golds)

    def compute(self) -> dict[str, Tensor]:
        """The key acc1, a fraction of 1."""
        total = self.total.item()
        return {"acc1": torch.tensor(self.right.item() / total if total else math.nan, device=self.device)}


class NameInText(Metric):
    """The share of texts that hold the name of their class anywhere, as the published 3D evaluation counts.

    The text is put into lower case and the name is not, and any place will do: "table" is right in "tablet", and
    an answer that lists all classes is right. A prediction of None is wrong. Without any update the value is nan.

    Attributes:
        held: texts that hold the name.
        texts: how many predictions were scored.
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False

    held: Tensor
    texts: Tensor

    def __init__(self) -> None:
        """Starts from no answers."""
        super().__init__()
        for name in ("held", "texts"):
            self.add_state(name, torch.tensor(0), dist_reduce_fx="sum")

    def update(self, predictions: Sequence[str | None], golds: Sequence[ClassName]) -> None:
        """Adds one text, or None, for each gold."""
        check_pairs(predictions, golds, ClassName)
        self.held += sum(
            text is not None and gold.name in text.lower()
            for text, gold in zip(predictions, golds, strict=True)
        )
        self.texts += len(golds)

    def compute(self) -> dict[str, Tensor]:
        """The key acc1_name_in_text, a fraction of 1."""
        total = self.texts.item()
        share = self.held.item() / total if total else math.nan
        return {"acc1_name_in_text": torch.tensor(share, device=self.device)}


def is_right(prediction: int | str | None, gold: Choice | ClassName) -> bool:
    """Whether a prediction is the gold one; a name is compared without regard to case and outer blanks.

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
