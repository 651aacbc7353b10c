"""Ill-matched predictions and golds come in; errors that say what is wrong go out."""

import pytest

from octavius.instruction.sample import Boxes, Choice, References
from octavius.metrics import (
    Accuracy,
    Bleu,
    BoxRecallPrecision,
    Cider,
    DenseCaptions,
    ExactMatch,
    LastOfScene,
    MeanAP3D,
    NameInText,
    RougeL,
)

TEXT = References(("a dog",))
ALL = [
    *(Accuracy, Bleu, BoxRecallPrecision, Cider, DenseCaptions),
    *(ExactMatch, LastOfScene, MeanAP3D, NameInText, RougeL),
]


@pytest.mark.parametrize("make", ALL)
def test_unequal_lengths_are_refused_with_both_numbers(make: type[Bleu]) -> None:
    with pytest.raises(ValueError, match="2 predictions and 1 golds"):
        make().update([None, None], [TEXT])


@pytest.mark.parametrize("make", [make for make in ALL if make is not BoxRecallPrecision])
def test_a_gold_of_another_task_is_refused_by_name(make: type[Bleu]) -> None:
    with pytest.raises(ValueError, match="gold 0 is a Boxes"):
        make().update([None], [Boxes(())])  # type: ignore[list-item]


def test_boxes_are_scored_against_boxes_only() -> None:
    with pytest.raises(ValueError, match="gold 1 is a Choice, but this metric scores Boxes"):
        BoxRecallPrecision().update([None, None], [Boxes(()), Choice(("a", "b"), 0)])  # type: ignore[list-item]


@pytest.mark.parametrize("make", [Bleu, Cider, RougeL, LastOfScene])
def test_a_caption_without_references_is_refused(make: type[Bleu]) -> None:
    with pytest.raises(ValueError, match="gold 1 has no reference text"):
        make().update(["a", "b"], [TEXT, References(())])
